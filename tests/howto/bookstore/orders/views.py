from django.db import connection, transaction
from django.http import HttpRequest, JsonResponse

from orchestrator import Orchestrator
from orders.flows import fulfil
from orders.models import Order

flows = Orchestrator.from_env()


def place(request: HttpRequest) -> JsonResponse:
    with transaction.atomic():
        order = Order.objects.create(title=request.POST["title"])
        handle = flows.start(fulfil, order.pk, key=f"order-{order.pk}", session=connection)
        if not order.title:
            raise ValueError("an order without a title")  # neither order nor execution
    return JsonResponse({"order": order.pk, "execution": handle.id}, status=202)


def look(request: HttpRequest, number: int) -> JsonResponse:
    facts = flows.facts((fulfil, f"order-{number}"))
    order = Order.objects.get(pk=number)
    return JsonResponse({"status": facts.status, "order": order.status})
