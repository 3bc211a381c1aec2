"""What a start is told beside the input, and by what an execution is named."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from uuid import uuid4

import pytest

from orchestrator import InvalidInput, NotFound, Orchestrator, flow
from orchestrator.runtime.modules import flows_of
from tests.runtime import flows
from tests.runtime.lab import Lab


@flow
def with_a_key(key: int, session: int = 0) -> int:
    return flows.add(key, session)


@flow
def by_keyword_only(*, key: int) -> int:
    return flows.first(key)


@flow
def without_input() -> int:
    return flows.first(1)


def test_key_and_session_are_those_of_the_start(lab: Lab) -> None:
    handle = lab.client.start(with_a_key, 1, 2, key="order-7")

    assert lab.client.facts(handle).key == "order-7"
    lab.drain()
    assert handle.result(0) == 3


@pytest.mark.parametrize(
    ("given", "named"),
    [({"key": "order-7"}, "key"), ({"session": object()}, "session")],
    ids=["key", "session"],
)
def test_a_word_that_could_be_meant_for_the_flow_is_refused(
    lab: Lab, given: dict[str, object], named: str
) -> None:
    args = () if named == "key" else (1,)
    with pytest.raises(InvalidInput, match=rf"'with_a_key' has a parameter '{named}'.*by position"):
        lab.client.start(with_a_key, *args, **given)  # type: ignore[arg-type]  # which one is meant?


def test_a_parameter_by_keyword_only_is_given_in_a_document(lab: Lab) -> None:
    with pytest.raises(InvalidInput, match=r"write start_document\(by_keyword_only, \{'key'"):
        lab.client.start(by_keyword_only, key=1)

    handle = lab.client.start_document(by_keyword_only, {"key": 1}, key="order-7")

    lab.drain(lab.worker())
    assert handle.result(0) == 2
    assert lab.client.facts(handle).key == "order-7"


def test_what_is_no_flow_is_refused(lab: Lab) -> None:
    with pytest.raises(InvalidInput, match="a Step is started, not a flow"):
        lab.client.start(flows.first, 1)  # type: ignore[call-overload]  # type checkers say so too


def test_a_flow_without_input_starts_many_of_empty_tuples(lab: Lab) -> None:
    assert len(lab.client.start_many(without_input, [(), ()])) == 2  # type: ignore[misc]  # rare
    with pytest.raises(InvalidInput, match="input 0 of flow 'without_input' is no tuple but a int"):
        lab.client.start_many(without_input, [1])  # type: ignore[misc]  # refused at run time too


def test_an_execution_is_named_by_handle_id_or_key(lab: Lab) -> None:
    client = lab.client
    handle = client.start(flows.single, 1, key="order-7")
    names = [
        handle,
        handle.id,
        handle.execution_id,
        ("single", "order-7"),
        (flows.single, "order-7"),
    ]

    assert {client.facts(name).id for name in names} == {handle.execution_id}
    for name in names:
        assert client.pause(name)
        assert client.resume(name)
        assert client.get(name).facts.status == handle.status() == "running"
    lab.drain()
    assert {client.wait(name, 0) for name in names} == {2}
    assert handle.facts().finished == 1


@pytest.mark.parametrize("wrong", ["order-7", 7, None])
def test_what_names_no_execution_is_refused(lab: Lab, wrong: object) -> None:
    with pytest.raises(InvalidInput, match=r"is no execution: give its handle, its id, or"):
        lab.client.facts(wrong)  # type: ignore[arg-type]  # tried


def test_a_name_that_nothing_has_is_not_found(lab: Lab) -> None:
    with pytest.raises(NotFound, match="no execution"):
        lab.client.facts(uuid4())
    with pytest.raises(NotFound, match="flow 'single' has the key 'never'"):
        lab.client.cancel((flows.single, "never"))


def test_from_env_connects_to_nothing_and_knows_the_flows_of_its_modules(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("ORCHESTRATOR_DATABASE_URL", "postgresql://nobody@127.0.0.1:1/nothing")
    monkeypatch.setenv("ORCHESTRATOR_BROKER_URL", "amqp://nobody@127.0.0.1:1//")

    made = Orchestrator.from_env(modules=["tests.runtime.flows", flows])

    assert made.settings.database_url.endswith(":1/nothing")
    assert set(made.catalogue.flows) == {one.name for one in flows_of([flows])}
    made.close()


def test_importing_the_library_loads_no_celery_until_from_env_is_asked() -> None:
    code = (
        "import sys, orchestrator; assert 'celery' not in sys.modules;"
        "orchestrator.Orchestrator.from_env(); assert 'celery' in sys.modules"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
