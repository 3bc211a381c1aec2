"""What a flow body records."""

import asyncio
import runpy
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest

from orchestrator import codec
from orchestrator.errors import DefinitionError
from orchestrator.flow.authoring import Flow, Step, each, flow, step
from orchestrator.flow.definition import (
    DictOf,
    EachNode,
    Graph,
    ListOf,
    Literal,
    Output,
    Param,
    StepNode,
    StepOptions,
)
from orchestrator.flow.retry import Retry

ME = __name__


@step
def load(path: str, depth: int = 3, *, tag: str = "x") -> list[str]:
    return [path, tag] * depth


@step(retry=Retry(attempts=3), timeout="90s", queue="slow", max_deaths=2, inline=False, window=7)
def parse(text: str, depth: int = 1) -> int:
    return len(text) * depth


@step
async def total(sizes: list[int]) -> int:
    return sum(sizes)


@step
def tick() -> None:
    pass


def node(recorded: Flow[..., Any], name: str) -> StepNode:
    found = recorded.definition.graph.node(name)
    assert isinstance(found, StepNode)
    return found


def fan_out(recorded: Flow[..., Any], name: str) -> EachNode:
    return recorded.definition.graph.each(name)


def test_a_call_becomes_a_node_and_a_promise_as_argument_a_dependency() -> None:
    @flow
    def count(path: str) -> int:
        return total(sizes=[parse(text=load(path))])  # type: ignore[arg-type]

    graph = count.definition.graph
    assert (
        Graph(
            ("path",),
            (
                StepNode("load", f"{ME}:load", (("path", Param("path")),)),
                StepNode("parse", f"{ME}:parse", (("text", Output("load")),)),
                StepNode("total", f"{ME}:total", (("sizes", ListOf((Output("parse"),))),)),
            ),
            Output("total"),
        )
        == graph
    )
    assert graph.dependencies("total") == ("parse",)


def test_arguments_are_bound_by_name_and_an_omitted_default_stays_with_its_function() -> None:
    @flow
    def read(path: str) -> None:
        load(path, tag="y")

    assert (("path", Param("path")), ("tag", Literal("y"))) == node(read, "load").arguments


def test_literals_are_encoded_and_structures_with_promises_are_kept_open() -> None:
    day = date(2026, 1, 2)

    @step
    def take(value: Any) -> None: ...

    @flow
    def giving(x: int) -> None:
        take([day, {"a": (1, 2)}])
        take({"list": [x, day], "pair": (x, 1), "empty": [], "$tag": x})

    plain, mixed = node(giving, "take"), node(giving, "take_2")
    assert (("value", Literal(codec.encode([day, {"a": (1, 2)}]))),) == plain.arguments
    assert (
        DictOf(
            (
                ("list", ListOf((Param("x"), Literal(codec.encode(day))))),
                ("pair", ListOf((Param("x"), Literal(1)))),
                ("empty", Literal([])),
                ("$tag", Param("x")),
            )
        )
        == dict(mixed.arguments)["value"]
    )


def test_steps_used_again_are_numbered_in_recording_order_around_taken_names() -> None:
    @flow
    def ticking() -> None:
        tick()
        tick.options(name="tick_2")()
        tick()
        tick()

    assert [n.name for n in ticking.definition.graph.nodes] == [
        "tick",
        "tick_2",
        "tick_3",
        "tick_4",
    ]


def test_after_waits_without_using_the_value() -> None:
    @flow
    def waiting(path: str) -> None:
        one, two = load(path), tick()  # type: ignore[func-returns-value]
        parse.options(after=one)("a")
        parse.options(after=[one, two, one])("b")

    assert waiting.definition.graph.dependencies("parse") == ("load",)
    assert node(waiting, "parse_2").after == ("load", "tick")


def test_each_over_a_step_has_a_body_of_that_step_alone() -> None:
    @flow
    def parsing(path: str, depth: int) -> list[int]:
        return each(load(path), parse.options(window=50, after=tick()), depth)  # type: ignore[func-returns-value]

    arguments = (("depth", Param("depth")), ("text", Param("text")))
    body = Graph(("text", "depth"), (StepNode("parse", f"{ME}:parse", arguments),), Output("parse"))
    expected = EachNode(
        "parse", Output("load"), "text", body, (("depth", Param("depth")),), after=("tick",)
    )
    assert expected == fan_out(parsing, "parse")
    assert Output("parse") == parsing.definition.graph.result
    options = parsing.definition.options
    assert options["parse"] == StepOptions(window=50, queue="slow")
    assert options["parse/parse"] == StepOptions(
        retry=Retry(attempts=3),
        timeout=timedelta(seconds=90),
        queue="slow",
        max_deaths=2,
        inline=False,
    )


@flow
def folder(root: str, depth: int = 5, tag: str = "t") -> dict[str, Any]:
    sizes = each(load(root, tag=tag), parse, depth)
    return {"sizes": sizes, "total": total(sizes), "root": root}


def test_each_over_a_flow_is_expanded_in_place_with_its_defaults_bound() -> None:
    @flow(version="2")
    def disk(roots: list[str], tag: str) -> Any:
        return each(roots, folder.options(window=3, name="folders"), tag=tag)

    found = fan_out(disk, "folders")
    assert folder.definition.graph == found.body
    assert found.item == "root"
    assert (("depth", Literal(5)), ("tag", Param("tag"))) == found.shared
    assert {
        *("folders", "folders/load", "folders/parse", "folders/parse/parse", "folders/total")
    } == set(disk.definition.options)
    assert disk.definition.options["folders"].window == 3
    assert disk.definition.options["folders/parse"].window == 7
    assert {f"{ME}:load", f"{ME}:parse", f"{ME}:total"} == set(disk.functions)


def test_an_each_can_fan_out_a_literal_list_an_input_or_the_result_of_an_each() -> None:
    @flow
    def nesting(texts: list[str]) -> Any:
        each(["a", "b"], parse)
        each((), parse)
        return each(each(texts, load), total)  # type: ignore[arg-type]

    assert fan_out(nesting, "parse").items == Literal(["a", "b"])
    assert fan_out(nesting, "load").items == Param("texts")
    assert fan_out(nesting, "total").items == Output("load")


def test_a_flow_returns_promises_in_any_structure_a_literal_its_input_or_nothing() -> None:
    @flow
    def pair(path: str) -> Any:
        return load(path), path, 3

    @flow
    def constant() -> int:
        tick()
        return 7

    @flow
    def nothing() -> None:
        tick()

    assert ListOf((Output("load"), Param("path"), Literal(3))) == pair.definition.graph.result
    assert Literal(7) == constant.definition.graph.result
    assert nothing.definition.graph.result is None


def test_helper_functions_and_loops_over_static_lists_record_what_they_call() -> None:
    def both(path: str) -> list[Any]:
        return [load(path), tick()]  # type: ignore[func-returns-value]

    @flow
    def looping(path: str) -> None:
        for name in ("a", "b"):
            both(name)
        both(path)

    names = [n.name for n in looping.definition.graph.nodes]
    assert names == ["load", "tick", "load_2", "tick_2", "load_3", "tick_3"]


def test_the_defaults_of_a_flow_are_kept_beside_its_graph_and_are_promises_in_its_body() -> None:
    @flow
    def defaulted(path: str, day: date = date(2026, 1, 2), note: str | None = None) -> None:
        load(path, tag=note)  # type: ignore[arg-type]

    assert defaulted.definition.defaults == {"day": {"$date": "2026-01-02"}, "note": None}
    assert dict(node(defaulted, "load").arguments)["tag"] == Param("note")
    assert defaulted.definition.options_json()["defaults"]["day"] == {"$date": "2026-01-02"}


def test_a_step_outside_of_a_flow_is_the_plain_function() -> None:
    assert load("a", 1) == ["a", "x"]
    assert parse.options(timeout="1s", name="other")("abc") == 3
    assert asyncio.run(total.body([1, 2])) == 3
    assert (load.__name__, load.__doc__, load.__wrapped__) == ("load", None, load.body)  # type: ignore[attr-defined]


def test_options_make_another_step_and_leave_the_first_as_it_was() -> None:
    other = load.options(queue="q", retry=Retry(attempts=2), timeout=5, inline=False, max_deaths=1)

    assert StepOptions() == load.settings
    assert other.settings == StepOptions(
        queue="q", retry=Retry(attempts=2), timeout=timedelta(seconds=5), inline=False, max_deaths=1
    )
    assert other.options(window=2).settings.queue == "q"
    assert (load.function, load.body) == (other.function, other.body)


def test_a_name_given_to_the_decorator_is_numbered_and_one_given_to_a_use_is_not() -> None:
    @step(name="work")
    def something() -> None: ...

    @flow(name="job", version="7")
    def named() -> None:
        something()
        something()
        something.options(name="last")()

    assert [n.name for n in named.definition.graph.nodes] == ["work", "work_2", "last"]
    assert (named.name, named.definition.name, named.definition.version) == ("job", "job", "7")


def test_steps_know_their_annotations_also_those_that_name_local_classes() -> None:
    class Local:
        pass

    @step
    def take(value: "Local", number: "int") -> "list[Local]": ...

    assert {"value": Local, "number": int, "return": list[Local]} == take.hints
    assert load.hints["return"] == list[str]


def test_an_annotation_that_cannot_be_read_is_refused_when_it_is_needed() -> None:
    @step
    def take(value: "Nowhere") -> None: ...  # type: ignore[name-defined]  # noqa: F821

    with pytest.raises(DefinitionError, match=r"annotations of 'take' cannot be read.*Nowhere"):
        assert take.hints


def test_a_local_step_has_a_key_that_says_so() -> None:
    @step
    def local() -> None: ...

    assert local.function == f"{ME}:{_outer()}.<locals>.local"
    assert isinstance(local, Step)
    assert repr(local) == f"<step local of {local.function}>"
    assert repr(folder) == f"<flow folder version {folder.definition.version}>"


def _outer() -> str:
    return test_a_local_step_has_a_key_that_says_so.__name__


def test_a_module_run_as_a_program_goes_by_its_importable_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = "from orchestrator.flow.authoring import step\n@step\ndef f(): ...\n"
    (tmp_path / "program.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path)

    as_module = runpy.run_module("program", run_name="__main__", alter_sys=True)
    as_script = runpy.run_path(str(tmp_path / "program.py"), run_name="__main__")

    assert as_module["f"].function == "program:f"
    assert as_script["f"].function == "__main__:f"
