"""docs/cli.md: every command that it shows is typed, in its order."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

from orchestrator import Reject, flow, signal, step
from tests.cli.conftest import Terminal
from tests.runtime.lab import Lab

PAGE = Path(__file__).parents[2] / "docs" / "cli.md"


class OutOfStock(Exception):
    """As the page calls it."""


@step
def charge(order: str) -> str:
    return f"receipt of {order}"


@step
def reserve(shop: str) -> str:
    if shop == "south":
        raise OutOfStock(shop)
    return shop


@step
def ship(receipt: str, shelf: str | None) -> str:
    if not receipt:
        raise Reject("no receipt")
    return f"{receipt} from {shelf}"


@flow
def checkout(order: str, shop: str) -> str:
    return ship(charge(order), reserve(shop))


@dataclass
class Approval:
    ok: bool
    by: str


@step
def answer(order: str, approval: Approval) -> str:
    return f"{order} by {approval.by}"


@flow
def approve(order: str) -> str:
    return answer(order, signal("manager_ok", Approval))


def commands() -> list[list[str]]:
    blocks = re.findall(
        r"^```console\n(.*?)^```", PAGE.read_text("utf-8"), re.DOTALL | re.MULTILINE
    )
    lines = [line for block in blocks for line in block.splitlines()]
    assert all(line.startswith("$ orchestrator ") for line in lines)
    return [shlex.split(line)[2:] for line in lines]


def test_every_command_of_the_page_does_what_it_says(database_url: str) -> None:
    lab = Lab.open(database_url, [checkout, approve])
    terminal = Terminal(lab)
    lab.start(checkout, "o-17", "south", key="o-17")
    lab.drain()
    shown = []

    for words in commands():
        shown.append(terminal(*words))
        if words[0] in {"retry", "send"}:
            lab.drain()

    assert "OutOfStock: south" in shown[0]
    assert terminal.json("show", "o-17")["result"] == "receipt of o-17 from north"
    assert terminal.json("show", "o-18")["status"] == "failed"
    assert terminal.json("show", "o-19")["result"] == "o-19 by Ann"
    lab.close()
