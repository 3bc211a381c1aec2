from orchestrator import flow, step
from shop.tasks import invoice


@step
def post(order: str, paper: str) -> str:
    return f"{paper} posted to the buyer of {order}"


bill = step(invoice)  # the task, adopted unchanged


@flow
def sell(order: str) -> str:
    return post(order, bill(order))
