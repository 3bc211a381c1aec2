from orchestrator import Retry, flow, step


@step(retry=Retry(attempts=5))
def roast(kilos: int) -> str:
    return f"{kilos} kg roasted"


@step
def post(roasted: str, address: str) -> str:
    return f"{roasted}, posted to {address}"


@flow
def deliver(kilos: int, address: str) -> str:
    return post(roast(kilos), address)
