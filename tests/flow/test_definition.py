"""A definition is data: deterministic, checked, and refused by name when it is malformed."""

import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given

from orchestrator import codec
from orchestrator.errors import DefinitionError
from orchestrator.flow.bindings import Binding, Failure, Not
from orchestrator.flow.definition import (
    Definition,
    DictOf,
    EachNode,
    Graph,
    Literal,
    Output,
    Param,
    StepNode,
    StepOptions,
    fingerprint,
)
from orchestrator.flow.graph import CallNode, MergeNode, SignalNode, SleepNode
from orchestrator.flow.retry import Retry
from tests.flow.simulator import Counts, counted_graphs, law


def step(name: str, *inputs: str, after: tuple[str, ...] = ()) -> StepNode:
    return StepNode(name, "shop:f", tuple((f"p{i}", Output(i)) for i in inputs), after=after)


def each(name: str, body: Graph, item: str = "x", **shared: Any) -> EachNode:
    return EachNode(name, Literal([]), item, body, tuple(shared.items()))


BODY = Graph(("x",), (StepNode("parse", "shop:f", (("x", Param("x")),)),), Output("parse"))


def with_handler(
    argument: tuple[str, Any] = ("e", Failure("a")),
    *,
    handles: str = "a",
    more: StepNode | None = None,
    result: Any = None,
    **placed: Any,
) -> Graph:
    handler = StepNode("b", "m:f", (argument,), handles=handles, **placed)
    others = () if more is None else (more,)
    return Graph((), (step("z"), step("a"), handler, *others), result)


def merge(inputs: tuple[str, ...], **what: Any) -> Graph:
    return Graph((), (step("a"), step("b"), MergeNode("m", inputs, **what)))


def deep(binding: Binding) -> Binding:
    for _ in range(33):
        binding = Not(binding)
    return binding


@law
@given(counted_graphs)
def test_a_definition_reads_back_from_its_canonical_json(counted: tuple[Graph, Counts]) -> None:
    definition = Definition.of(name="checkout", graph=counted[0])
    text = codec.canonical(definition.to_json())

    read = Definition.from_json(json.loads(text))

    assert definition == read
    assert text == codec.canonical(read.to_json())


def test_options_and_defaults_read_back_and_are_no_part_of_the_fingerprint() -> None:
    graph = Graph(("x",), (step("a"), each("b", BODY)))
    options = {
        "a": StepOptions(timeout=timedelta(seconds=90), queue="payments", inline=False),
        "b": StepOptions(window=50, deadline=timedelta(hours=1)),
        "b/parse": StepOptions(retry=Retry(attempts=3, on=OSError), max_deaths=1),
    }
    plain = Definition.of(name="checkout", graph=graph)
    definition = Definition.of(name="checkout", graph=graph, options=options, defaults={"x": 1})

    read = Definition.from_json(json.loads(json.dumps(definition.to_json())))

    assert definition == read
    assert plain.fingerprint == definition.fingerprint
    assert options["b/parse"] == read.step_options("b/parse")
    assert StepOptions() == read.step_options("nowhere")
    assert definition.options_json()["steps"]["a"] == {
        "timeout": "1m30s",
        "queue": "payments",
        "inline": False,
    }


def test_the_deadline_reads_back_and_is_no_part_of_the_fingerprint() -> None:
    one = Definition.of(name="one", graph=BODY, deadline=timedelta(days=2))

    assert one.options_json()["deadline"] == "2d"
    assert Definition.from_json(one.to_json()) == one
    assert one.fingerprint == Definition.of(name="one", graph=BODY).fingerprint
    with pytest.raises(DefinitionError, match="expected a text as 'deadline'"):
        Definition.from_json({**one.to_json(), "options": {"deadline": 2}})


def test_the_version_is_the_beginning_of_the_fingerprint_unless_it_is_given() -> None:
    graph = Graph((), (step("a"),))

    unnamed, named = (Definition.of(name="f", graph=graph, version=v) for v in (None, "3"))

    assert unnamed.fingerprint[:8] == unnamed.version
    assert named.version == "3"
    assert len(named.fingerprint) == 32
    assert unnamed.fingerprint == named.fingerprint


@pytest.mark.parametrize(
    "other",
    [
        Graph(("x",), (step("a"), step("c", "a")), Output("c")),
        Graph(("x",), (step("a"), StepNode("b", "shop:g", (("p0", Output("a")),))), Output("b")),
        Graph(("x",), (step("a"), StepNode("b", "shop:f", (("p0", Literal(1)),))), Output("b")),
        Graph(("x",), (step("a"), step("b", "a", after=("a",))), Output("b")),
        Graph(("x",), (step("a"), step("b", "a")), Output("a")),
        Graph(("x",), (step("a"), step("b", "a"))),
        Graph(("y",), (step("a"), step("b", "a")), Output("b")),
    ],
)
def test_the_fingerprint_changes_with_names_functions_references_joins_and_result(
    other: Graph,
) -> None:
    graph = Graph(("x",), (step("a"), step("b", "a")), Output("b"))

    assert fingerprint(graph) != fingerprint(other)


def test_the_fingerprint_tells_literals_of_different_types_apart() -> None:
    graphs = [Graph((), (StepNode("a", "m:f", (("p", Literal(v)),)),)) for v in (1, 1.0, True, "1")]

    assert len({fingerprint(graph) for graph in graphs}) == 4


def test_the_order_in_which_arguments_were_written_is_no_structure() -> None:
    one = StepNode(
        "a", "m:f", (("p", Literal(1)), ("q", DictOf((("k", Param("x")), ("b", Param("x"))))))
    )
    two = StepNode(
        "a", "m:f", (("q", DictOf((("b", Param("x")), ("k", Param("x"))))), ("p", Literal(1)))
    )

    assert one == two
    assert fingerprint(Graph(("x",), (one,))) == fingerprint(Graph(("x",), (two,)))


def test_numbers_that_jsonb_rewrites_do_not_change_the_fingerprint_of_a_stored_graph() -> None:
    written = {
        "params": [],
        "nodes": [{"name": "a", "function": "m:f", "arguments": {"p": {"literal": [1e17, -0.0]}}}],
        "result": None,
    }
    rewritten = json.loads(
        json.dumps(written).replace("1e+17", "1" + "0" * 17).replace("-0.0", "0.0")
    )

    one, two = (
        Definition.from_json({"name": "f", "graph": graph}) for graph in (written, rewritten)
    )

    assert one.fingerprint == two.fingerprint


@pytest.mark.req("E6")
@pytest.mark.parametrize(
    ("graph", "problem"),
    [
        (Graph((), ()), "there is no step"),
        (Graph((), (each("a", Graph(("x",), ())),)), "in the body of each 'a': there is no step"),
        (Graph((), (step("a"), step("a"))), "the name 'a' is used twice"),
        (Graph(("x", "x"), (step("a"),)), "the parameter 'x' is declared twice"),
        (Graph(("1x",), (step("a"),)), "the parameter '1x' is not an identifier"),
        (Graph((), (step("a", "b"),)), "step 'a': it refers to 'b', which is no step"),
        (Graph((), (step("a", after=("b",)),)), "step 'a': after='b' is no step"),
        (
            Graph((), (StepNode("a", "m:f", (("p", Param("x")),)),)),
            "step 'a': there is no parameter",
        ),
        (Graph((), (step("a"),), Output("b")), "the result: it refers to 'b'"),
        (Graph((), (step("a"),), Param("x")), "the result: there is no parameter 'x'"),
        (
            Graph((), (step("a", "b"), step("b", "a"))),
            "never reached, they wait for each other: a -> b",
        ),
        (Graph((), (step("a", "a"),)), "never reached, they wait for each other: a -> a"),
        (Graph((), (step("a"), step("b", after=("c",)), step("c", "b"))), "never reached"),
        (Graph((), (step("a-b"),)), "the name 'a-b' may hold only letters"),
        (Graph((), (step("größe"),)), "the name 'größe' may hold only letters"),
        (Graph((), (step("a" * 64),)), "has 64 characters, at most 63"),
        (Graph((), (StepNode("a", "f"),)), "the function 'f' is not written 'module:name'"),
        (Graph((), (each("a", BODY, item="y"),)), "step 'a': the body has no parameter 'y'"),
        (Graph((), (each("a", BODY, y=Literal(1)),)), "step 'a': the body has no parameter 'y'"),
        (Graph((), (each("a", BODY, x=Literal(1)),)), "the body's parameter 'x' is bound twice"),
        (
            Graph((), (each("a", Graph(("x", "y"), BODY.nodes)),)),
            "step 'a': the body's parameter 'y' is not bound",
        ),
        (Graph((), tuple(step(f"s{i}") for i in range(1_001))), "1001 steps, at most 1000"),
        (with_handler(handles="c"), "step 'b': it handles 'c', which is no step of this level"),
        (with_handler(handles="b"), "but only a step or a call that handles nothing has a handler"),
        (with_handler(after=("a",)), "ordered by its failure alone, without after or conditions"),
        (with_handler(conditions=(Output("a"),)), "without after or conditions"),
        (with_handler(("e", Output("z"))), "step 'b': it uses 'z', which 'a' does not wait for"),
        (
            with_handler(("e", Failure("z"))),
            "it takes the failure of 'z', which it does not handle",
        ),
        (
            with_handler(more=StepNode("c", "m:f", handles="a")),
            "step 'c': 'a' has the handler 'b' already",
        ),
        (with_handler(more=step("c", "b")), "step 'c': it refers to 'b', a handler: refer to the"),
        (with_handler(more=step("c", after=("b",))), "after='b' is a handler: name the step"),
        (with_handler(result=Failure("a")), "the result: a failure is given to its handler only"),
        (merge(("a", "a")), "step 'm': the input 'a' is given twice"),
        (merge(("a", "c")), "step 'm': it refers to 'c', which is no step of this level"),
        (merge(("a", "b"), wanted=3, single=False), "step 'm': it waits for 3 of 2 inputs"),
        (merge(("a", "b"), wanted=2), "it waits for 2 inputs and cannot have the value of a"),
        (Graph((), (SignalNode("a", ""),)), "step 'a': the signal it waits for has no name"),
        (Graph((), (SignalNode("a", "x", within="3x"),)), "step 'a': within: '3x' is not a"),
        (Graph((), (SleepNode("a"),)), "it sleeps for a duration or until a moment, one of them"),
        (Graph((), (SleepNode("a", lasts="1s", until=Literal(1)),)), "one of them"),
        (Graph((), (SleepNode("a", lasts="soon"),)), "step 'a': sleep: 'soon' is not a duration"),
        (Graph((), (CallNode("a", "no name"),)), "the flow it calls: the name 'no name' may hold"),
        (
            Graph((), (EachNode("a", Literal([]), "x", BODY, accept=1.5),)),
            "step 'a': accept=1.5 is no share of items",
        ),
        (
            Graph((), (StepNode("a", "m:f", conditions=(Output("b"),)),)),
            "step 'a': it refers to 'b', which is no step",
        ),
        (Graph((), (StepNode("a", "m:f", conditions=(Output("a"),)),)), "wait for each other"),
        (Graph((), (step("a"),), deep(Param("x"))), "nested deeper than 32 levels"),
    ],
)
def test_a_graph_that_cannot_run_to_its_end_is_refused(graph: Graph, problem: str) -> None:
    with pytest.raises(DefinitionError) as refused:
        Definition.of(name="checkout", graph=graph)

    assert "flow 'checkout'" in str(refused.value)
    assert problem in str(refused.value)


@pytest.mark.req("E6")
def test_all_problems_of_a_graph_come_in_one_error() -> None:
    graph = Graph((), (step("a", "b"), step("a"), StepNode("c", "f")), Output("d"))

    with pytest.raises(DefinitionError) as refused:
        Definition.of(name="checkout", graph=graph)

    assert str(refused.value).count(";") == 3


def test_eaches_may_be_nested_ten_deep_and_no_deeper() -> None:
    graph = BODY
    for _ in range(10):
        graph = Graph(("x",), (each("a", graph),))

    assert Definition.of(name="f", graph=graph).graph == graph
    with pytest.raises(DefinitionError, match="nested 11 deep, at most 10"):
        Definition.of(name="f", graph=Graph((), (each("a", graph),)))


def test_a_thousand_steps_are_allowed_bodies_included() -> None:
    body = Graph(("x",), tuple(step(f"s{i}") for i in range(499)))

    fits = Graph((), (each("a", body), each("b", body)))
    too_many = Graph((), (each("a", body), each("b", body), step("c")))

    assert Definition.of(name="f", graph=fits).graph == fits
    with pytest.raises(DefinitionError, match="1001 steps"):
        Definition.of(name="f", graph=too_many)


def valid() -> dict[str, Any]:
    graph = Graph(("x",), (step("a"), each("b", BODY)), DictOf((("k", Output("b")),)))
    document: dict[str, Any] = Definition.of(
        name="f", graph=graph, options={"a": StepOptions(queue="q")}
    ).to_json()
    return json.loads(json.dumps(document))  # type: ignore[no-any-return]


Break = Callable[[dict[str, Any]], Any]


@pytest.mark.req("E6")
@pytest.mark.parametrize(
    ("break_it", "named"),
    [
        (lambda d: d.pop("name"), "needs a name"),
        (lambda d: d.pop("graph"), "there is no graph"),
        (lambda d: d.update(graph=[]), "graph: expected an object"),
        (lambda d: d.update(nmae="f"), "unknown field 'nmae'"),
        (lambda d: d.update(version=3), "the version is not text"),
        (lambda d: d.update(name="no spaces"), "the name 'no spaces'"),
        (lambda d: d.update(fingerprint="0" * 32), "one of them was changed by hand"),
        (lambda d: d["graph"].pop("nodes"), "the field 'nodes' is missing"),
        (lambda d: d["graph"].update(nodes={}), "graph.nodes: expected a list"),
        (lambda d: d["graph"].update(params=[1]), "graph.params[0]: expected text"),
        (lambda d: d["graph"].update(edges=[]), "unknown field 'edges'"),
        (lambda d: d["graph"]["nodes"].append(7), "graph.nodes[2]: expected an object"),
        (lambda d: d["graph"]["nodes"][0].pop("function"), "graph.nodes[0] ('a')"),
        (lambda d: d["graph"]["nodes"][0].update(retry=3), "unknown field 'retry'"),
        (lambda d: d["graph"]["nodes"][0].update(after="b"), "after: expected a list"),
        (lambda d: d["graph"]["nodes"][0].update(arguments=[]), "arguments: expected an object"),
        (
            lambda d: d["graph"]["nodes"][0].update(arguments={"p": {"outptu": "b"}}),
            "graph.nodes[0] ('a').arguments.p: expected an object with one of param, output",
        ),
        (lambda d: d["graph"]["nodes"][0].update(arguments={"p": 1}), "arguments.p: expected"),
        (lambda d: d["graph"]["nodes"][1].pop("item"), "the field 'item' is missing"),
        (lambda d: d["graph"]["nodes"][1]["body"].update(nodes=[]), "in the body of each 'b'"),
        (lambda d: d["graph"].update(result={"dict": []}), "graph.result.dict: expected an object"),
        (lambda d: d["graph"].update(result={"list": {}}), "graph.result.list: expected a list"),
        (lambda d: d["graph"].update(result={"literal": float("nan")}), "nan is no JSON number"),
        (lambda d: d["graph"].update(result={"param": None}), "graph.result.param: expected text"),
        (lambda d: d.update(options=[1]), "options: expected an object"),
        (lambda d: d["options"].update(step={}), "options: unknown field 'step'"),
        (lambda d: d["options"].update(steps=[]), "expected the objects 'steps' and 'defaults'"),
        (lambda d: d["options"]["steps"].update(parse={}), "options for 'parse', which is no step"),
        (lambda d: d["options"]["steps"].update(a=7), "options of 'a': expected an object"),
        (lambda d: d["options"]["steps"].update(a={"queu": "q"}), "unknown option 'queu'"),
        (lambda d: d["options"]["steps"].update(a={"timeout": "5x"}), "'5x' is not a duration"),
        (lambda d: d["options"]["steps"].update(a={"timeout": []}), "[] is not a duration"),
        (lambda d: d["options"]["steps"].update(a={"timeout": 0}), "an attempt needs time"),
        (
            lambda d: d["options"]["steps"].update(a={"deadline": "soon"}),
            "'soon' is not a duration",
        ),
        (lambda d: d["options"]["steps"].update(a={"deadline": None}), "deadline=None is not"),
        (lambda d: d["options"]["steps"].update(a={"deadline": 0}), "deadline='0s'"),
        (lambda d: d["options"].update(deadline="soon"), "'soon' is not a duration"),
        (lambda d: d["options"]["steps"].update(a={"queue": 7}), "queue=7"),
        (lambda d: d["options"]["steps"].update(a={"inline": 1}), "inline=1"),
        (lambda d: d["options"]["steps"].update(a={"window": 0}), "window=0"),
        (lambda d: d["options"]["steps"].update(a={"max_deaths": True}), "max_deaths=True"),
        (lambda d: d["options"]["steps"].update(a={"retry": {"n": 1}}), "retry: unknown field 'n'"),
        (lambda d: d["options"]["steps"].update(a={"retry": None}), "retry=None"),
        (lambda d: d["options"]["defaults"].update(y=1), "a default for 'y'"),
    ],
)
def test_a_malformed_document_is_refused_by_the_place_that_is_wrong(
    break_it: Break, named: str
) -> None:
    document = valid()
    break_it(document)

    with pytest.raises(DefinitionError) as refused:
        Definition.from_json(document)

    assert named in str(refused.value)


def test_a_document_that_is_nested_without_end_is_refused() -> None:
    binding: dict[str, Any] = {"param": "x"}
    body: dict[str, Any] = {"params": [], "nodes": [{"name": "a", "function": "m:f"}]}
    for _ in range(200):
        binding = {"list": [binding]}
        body = {
            "params": [],
            "nodes": [{"name": "a", "each": {"literal": []}, "item": "x", "body": body}],
        }

    for graph in ({**valid()["graph"], "result": binding}, body):
        with pytest.raises(DefinitionError, match="nested"):
            Definition.from_json({"name": "f", "graph": graph})
