import os

from orchestrator import Retry, flow, signal, sleep, step, this_step

COOLING = os.environ.get("COOLING", "2h")


@step(retry=Retry(attempts=3, first="0.1s"))
def bake(loaves: int) -> list[str]:
    if os.environ.get("OVEN") == "broken":
        raise ConnectionError("the oven does not answer")
    batch = this_step().attempt
    return [f"loaf {number} of batch {batch}" for number in range(1, loaves + 1)]


@step
def deliver(loaves: list[str], street: str, driver: str) -> str:
    return f"{len(loaves)} loaves to {street} by {driver}"


@flow
def order(loaves: int, street: str) -> str:
    baked = bake(loaves)
    cooled = sleep(COOLING, after=baked)
    driver = signal("driver", str, within="8h")
    return deliver.options(after=cooled)(baked, street, driver)
