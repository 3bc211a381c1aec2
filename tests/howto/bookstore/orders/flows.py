from orchestrator import flow, step
from orders.models import Order
from orders.tasks import write_letter


@step
def pack(order: int) -> str:
    Order.objects.filter(pk=order).update(status="packed")
    return "packed"


letter = step(write_letter)  # an existing Celery task, adopted unchanged


@flow
def fulfil(order: int) -> str:
    return letter(order, pack(order))
