"""Requirement lines of chapter E (requirements.md), each by what a user or an operator sees.

One worker serves a test; what kills it is in the crash table's tests.
"""

from __future__ import annotations

import random
import threading
from collections import Counter
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest

from orchestrator import (
    Conflict,
    ExecutionFailed,
    ExecutionStatus,
    NotFound,
    Settings,
    StepStatus,
)
from orchestrator.records import StepAddress, StepMessage
from orchestrator.workers import connect
from tests.acceptance import flows
from tests.acceptance.conftest import OpenSite
from tests.acceptance.masses import Masses
from tests.acceptance.site import Site
from tests.services.processes import wait_until


@pytest.mark.req("E1")
def test_execution_shows_ids_state_steps_and_history_while_it_runs_and_when_it_has_ended(
    worked_site: Site,
) -> None:
    site = worked_site
    handle = site.start(flows.gated_apart, "gate", key="order 7")
    site.reached("gate")

    view = handle.view()
    assert (view.facts.id, view.facts.flow, view.facts.key) == (
        handle.execution_id,
        "gated_apart",
        "order 7",
    )
    assert view.current_state == ("hold",)
    assert (view.facts.status, view.facts.finished_at) == (ExecutionStatus.RUNNING, None)
    site.open("gate")
    site.result(handle)

    view = handle.view()
    assert (view.facts.status, view.current_state) == (ExecutionStatus.SUCCEEDED, ())
    assert view.facts.finished_at is not None
    assert [
        (step.address.name, step.status, step.counter_updated, step.message_sent, step.error)
        for step in sorted(view.steps, key=lambda step: step.ended_no or 0)
    ] == [(name, StepStatus.SUCCEEDED, True, True, None) for name in ("hold", "add_apart", "add")]
    assert all(step.began_at and step.ended_at for step in view.steps)
    assert [line["kind"] for line in view.history] == [
        "started",
        "step succeeded",
        "step succeeded",
        "step succeeded",
        "succeeded",
    ]


@pytest.mark.req("E2")
def test_start_with_a_known_key_finds_the_execution_open_or_complete_and_does_nothing(
    worked_site: Site,
) -> None:
    site = worked_site
    unknown = site.start(flows.gated, "gate", key="k")
    site.reached("gate")
    while_open = site.start(flows.gated, "gate", key="k")
    site.open("gate")
    result = site.result(while_open)
    calls = site.calls()

    complete = site.start(flows.gated, "gate", key="k")

    assert (unknown.created, while_open.created, complete.created) == (True, False, False)
    assert unknown.id == while_open.id == complete.id
    assert complete.result(0) == result == 2
    with pytest.raises(Conflict, match="another input"):
        site.start(flows.gated, "another", key="k")
    assert site.calls() == calls == {"hold": 1, "add": 1}
    site.sound()


@pytest.mark.req("E10")
def test_one_key_started_by_many_at_once_is_one_execution(worked_site: Site) -> None:
    site = worked_site
    together = threading.Barrier(8)
    found: list[str] = []

    def start() -> None:
        together.wait()
        found.append(site.start(flows.hops, 1, key="once").id)

    threads = [threading.Thread(target=start) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(found) == 8
    assert len(set(found)) == 1
    assert site.result(site.start(flows.hops, 1, key="once")) == 5
    assert site.calls() == {"add_apart": 4}
    site.sound()


@pytest.mark.req("E10")
def test_every_message_delivered_many_times_in_any_order_changes_nothing(worked_site: Site) -> None:
    site = worked_site
    masses = Masses(site)
    masses.start(9)
    held = site.start(flows.gated_apart, "gate")
    site.reached("gate")
    masses.check_results_only(timeout=60)
    before = what_steps_are(site, through=held.execution_id)
    calls = site.calls()

    copies = [copy for _ in range(3) for copy in messages(site)]
    random.Random(10).shuffle(copies)
    with connect.broker(site.settings)() as connection:
        channel = connection.channel()
        outgoing = connect.sender(connect.broker(site.settings), None)  # type: ignore[arg-type]
        outgoing.publish(copies)
        outgoing.collect(5)
        wait_until(
            lambda: not channel.queue_declare(site.settings.queue, passive=True).message_count,
            what="all copies to be taken",
        )
        outgoing.close()

    assert site.result(site.start(flows.line, 1)) == 5
    assert site.calls() == calls + Counter(add=4)
    assert what_steps_are(site, through=held.execution_id) == before
    site.open("gate")
    assert site.result(held) == 3
    site.sound()


def what_steps_are(site: Site, *, through: UUID) -> list[dict[str, Any]]:
    """Everything that a message could change; a lease is renewed without any."""
    return site.rows(
        "SELECT execution_id, name, scope, run, status, attempt, token, deaths, holder, nonce,"
        " ended_no, ended_at, output, wanted, live, next FROM orchestrator.steps"
        " WHERE execution_id <= %s ORDER BY execution_id, name, scope, run", through,
    )  # fmt: skip


def messages(site: Site) -> list[StepMessage]:
    """A message for every step there is, ended or not, as its newest dispatch would be."""
    rows = site.rows(
        "SELECT s.*, e.definition_id, d.name AS flow FROM orchestrator.steps s"
        " JOIN orchestrator.executions e ON e.id = s.execution_id"
        " JOIN orchestrator.definitions d ON d.id = e.definition_id"
    )
    return [
        StepMessage(
            address=StepAddress(row["execution_id"], row["name"], row["scope"], row["run"]),
            definition_id=row["definition_id"],
            task=f"{row['flow']}.{row['name']}",
            number=max(1, row["dispatch"]),
            queue=row["queue"],
        )
        for row in rows
    ]


@pytest.mark.req("E3")
@pytest.mark.req("E5")
def test_retry_skips_what_is_done_and_reads_afresh_what_it_needs(worked_site: Site) -> None:
    site = worked_site
    handle = site.start(flows.pricing, "price")
    (site.folder / "price").write_text("none")
    with pytest.raises(ExecutionFailed, match="none"):
        site.result(handle)
    failed = site.row(handle, "read_price")
    assert (failed["status"], failed["error"]["kind"]) == ("failed", "ValueError")
    (site.folder / "price").write_text("41")

    site.orchestrator.retry(handle.execution_id)

    # the failed step read the price as it is now; what had succeeded was not run again
    assert site.result(handle) == 41 + 1
    assert [call.body for call in site.ran()] == ["add", "read_price", "read_price", "add"]
    # a view is read when it is asked for, never kept
    assert handle.view().facts.status is ExecutionStatus.SUCCEEDED
    site.sound(begun_anew=True)


@pytest.mark.req("E8")
def test_fan_out_of_k_times_n_counts_every_step_and_settles_once(worked_site: Site) -> None:
    site = worked_site
    handle = site.start(flows.grid, 5, 7)

    assert site.result(handle) == sum(row * column for row in range(5) for column in range(7))
    facts = handle.view().facts
    counted = site.rows(
        "SELECT name, count(*) AS steps, count(*) FILTER (WHERE status = 'failed') AS errors"
        " FROM orchestrator.steps WHERE items IS NULL GROUP BY 1 ORDER BY 1"
    )
    assert {row["name"]: (row["steps"], row["errors"]) for row in counted} == {
        "lines": (1, 0),
        "cells": (5, 0),
        "times": (35, 0),
        "total": (5, 0),
        "total_2": (1, 0),
    }
    # beside them each fan-out's own row: one outside, five inside
    assert facts.started == facts.finished == 1 + 5 + 35 + 5 + 1 + (1 + 5)
    assert [line["kind"] for line in handle.view().history].count("succeeded") == 1
    site.sound()


@pytest.mark.req("E8")
@pytest.mark.req("E11")
def test_errors_are_counted_and_kept_with_their_context_at_every_level(worked_site: Site) -> None:
    site = worked_site
    handle = site.start(flows.partly_failing, 6)

    with pytest.raises(ExecutionFailed, match=r"ZeroDivisionError") as raised:
        site.result(handle)

    view = handle.view()
    assert raised.value.execution_id == handle.id
    (failed, *others) = [step for step in view.steps if step.status is StepStatus.FAILED]
    assert failed.error is not None
    assert (failed.error["kind"], failed.error["attempt"]) == ("ZeroDivisionError", 2)
    assert "in divide" in failed.error["traceback"]
    assert view.facts.failed == 1 + len(others)
    assert view.facts.status is ExecutionStatus.FAILED
    assert [line["kind"] for line in view.history][-1] == "failed"
    assert any("ZeroDivisionError" in str(line.get("data")) for line in view.history)
    site.sound()


@pytest.mark.req("E14")
def test_completed_executions_expire_before_their_keys_and_open_ones_never(
    open_site: OpenSite, database_url: str, rabbitmq_url: str
) -> None:
    site = open_site(database_url, rabbitmq_url, keep="1s", key_keep="4s")
    worker = site.worker()
    held = site.start(flows.gated, "gate", key="open")
    site.reached("gate")
    done = site.start(flows.hops, 1, key="done")
    site.result(done)

    def expired() -> bool:
        site.duty("expire")
        return not site.rows(
            "SELECT 1 FROM orchestrator.executions WHERE id = %s", done.execution_id
        )

    wait_until(expired, interval=0.5, what="the end of the execution")
    with pytest.raises(NotFound):
        done.view()
    left = site.rows(
        "SELECT count(*) AS n FROM orchestrator.steps WHERE execution_id = %s", done.execution_id
    )
    assert left == [{"n": 0}]
    with pytest.raises(Conflict, match="finished and expired"):
        site.start(flows.hops, 1, key="done")

    def forgotten() -> bool:
        site.duty("expire")
        return not site.rows("SELECT 1 FROM orchestrator.keys WHERE key = 'done'")

    wait_until(forgotten, interval=0.5, what="the end of the key")
    again = site.start(flows.hops, 1, key="done")
    assert again.created
    assert again.id != done.id
    assert site.result(again) == 5
    assert site.start(flows.gated, "gate", key="open").id == held.id
    site.open("gate")
    assert site.result(held) == 2
    assert worker.running()


@pytest.mark.req("E14")
def test_keys_outlive_executions_and_every_redelivery_by_default() -> None:
    settings = Settings()

    assert settings.keep == timedelta(days=7)
    assert settings.key_keep >= timedelta(days=30)
    assert settings.key_keep > settings.keep + settings.lost_idle_after * 2**6
