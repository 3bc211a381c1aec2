"""``diagram``: a flow, or an execution with the path it took, as a text that draws it."""

from __future__ import annotations

import click

from orchestrator.cli import output
from orchestrator.cli.desk import Desk, common, pass_desk
from orchestrator.errors import NotFound
from orchestrator.flow import drawing
from orchestrator.flow.functions import near_miss
from orchestrator.flow.graph import Graph
from orchestrator.runtime import inspection


@click.command(short_help="Draw a flow or an execution as Mermaid text.")
@click.argument("name", metavar="NAME|EXECUTION")
@click.option("--flow", metavar="NAME", help="Flow whose keys are meant.")
@click.option("--version", help="Of the flow; by default the newest that is stored.")
@click.option("--dot", is_flag=True, help="For Graphviz instead of Mermaid.")
@common
@pass_desk
def diagram(
    desk: Desk, *, name: str, flow: str | None, version: str | None, dot: bool, as_json: bool
) -> None:
    """Draw a flow, or an execution with the state of each of its steps, as Mermaid text."""
    graph, title, states = _graph(desk, name, flow, version)
    draw = drawing.dot if dot else drawing.mermaid
    text = draw(graph, states, title=title)
    if as_json:
        kind = "dot" if dot else "mermaid"
        output.document(
            {"name": name, "title": title, "format": kind, "states": states, "text": text}
        )
    else:
        click.echo(text, nl=False)


def _graph(
    desk: Desk, name: str, flow: str | None, version: str | None
) -> tuple[Graph, str, dict[str, str]]:
    stored = None if flow is not None else inspection.stored_graph(desk.database, name, version)
    if stored is not None:
        return stored, name, {}
    known = desk.known.flows
    if flow is None and name in known and version in {None, known[name].definition.version}:
        return known[name].definition.graph, name, {}
    if version is not None:
        raise NotFound(
            f"no version {version!r} of flow {name!r} is stored"
            f"{near_miss(name, inspection.flow_names(desk.database))}"
        )
    try:
        execution = desk.execution(name, flow)
    except NotFound as error:
        hint = near_miss(name, [*inspection.flow_names(desk.database), *known])
        raise NotFound(f"no flow is called {name!r}{hint}, and {error}") from error
    return inspection.drawn(desk.database, desk.known, execution)
