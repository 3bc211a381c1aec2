from orchestrator import Orchestrator
from shop.flows import sell

flows = Orchestrator.from_env()


def buy(order: str) -> str:
    return flows.start(sell, order, key=order).id
