"""What commands print of executions as JSON: keys that do not change.

Values are those that are shown, so what is secret by its name has been masked by then.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from orchestrator.records import ExecutionFacts
from orchestrator.runtime import places, queries
from orchestrator.runtime.answers import Answer
from orchestrator.runtime.inspection import Portrait, StepPortrait
from orchestrator.runtime.standing import Standing, Wait
from orchestrator.store.search import DEADLINE_PASSED, Found


def of_facts(facts: ExecutionFacts) -> dict[str, Any]:
    """Return an execution's row as every command prints it."""
    return {
        "id": facts.id,
        "flow": facts.flow,
        "version": facts.version,
        "key": facts.key,
        "status": facts.status,
        "paused": facts.paused,
        "started": facts.started,
        "finished": facts.finished,
        "failed": facts.failed,
        "reruns": facts.reruns,
        "created_at": facts.created_at,
        "finished_at": facts.finished_at,
    }


def of_found(found: Found) -> dict[str, Any]:
    """Return an execution that was looked for, with its duration and its first error."""
    error = None
    if found.deadline is not None:
        message = queries.passed(found.deadline)
        error = {"step": None, "kind": DEADLINE_PASSED, "message": message}
    elif found.failed_step is not None:
        error = {
            "step": places.text_of(found.failed_step, found.failed_scope or ""),
            "kind": (found.error or {}).get("kind"),
            "message": (found.error or {}).get("message"),
        }
    return {**of_facts(found.facts), "seconds": found.seconds, "error": error}


def of_portrait(seen: Portrait) -> dict[str, Any]:
    """Return an execution with its values, its nodes and its step runs."""
    return {
        **of_facts(seen.facts),
        "seconds": seen.seconds,
        "input": seen.input,
        "result": seen.result,
        "deadline": seen.deadline,
        "passed_deadline": seen.passed_deadline,
        "nodes": [
            {
                "node": node.path,
                "counts": node.counts,
                "states": node.states,
                "attempts": node.attempts,
                "seconds": node.seconds,
            }
            for node in seen.nodes
        ],
        "steps": [of_step(step) for step in seen.steps],
    }


def of_step(step: Standing) -> dict[str, Any]:
    """Return a step run: ``status`` as it is stored, ``state`` as it reads."""
    row = step.row
    return {
        "step": places.text_of(row.address.name, row.address.scope),
        "run": row.address.run,
        "id": row.address.id,
        "status": row.status,
        "state": step.state,
        "waits_for": None if step.wait is None else _of_wait(step.wait),
        "queue": row.queue,
        "attempt": step.runs,
        "deaths": row.deaths,
        "counter_updated": row.counter_updated,
        "message_sent": row.sent >= row.dispatch,
        "began_at": row.began_at,
        "ended_at": row.ended_at,
        "seconds": seconds_of(step),
        "due_at": row.due_at,
        "closed_by": row.closed_by,
        "absorbed_by": row.absorbed_by,
        "cancel_asked": row.cancel_asked,
        "error": row.error,
    }


def of_step_portrait(execution: UUID, found: StepPortrait) -> dict[str, Any]:
    """Return the newest run of a step with its output, and its earlier runs."""
    row = found.step.row
    return {
        "execution": execution,
        **of_step(found.step),
        "output": found.output,
        "progress": row.progress,
        "worker": None if row.holder is None else row.holder.id,
        "earlier": [of_step(step) for step in found.earlier],
    }


def of_line(line: Mapping[str, Any]) -> dict[str, Any]:
    """Return a line of history."""
    return {
        "position": line["position"],
        "at": line["at"],
        "kind": line["kind"],
        "step": place_of(line),
        "run": line["run"],
        "actor": line["actor"],
        "data": line["data"],
    }


def of_answer(answer: Answer) -> dict[str, Any]:
    """Return why something stands where it stands, and what moves it."""
    return {
        "code": answer.code,
        "step": answer.step,
        "why": answer.why,
        "next": answer.next,
        "command": None if answer.command is None else f"orchestrator {answer.command}",
        "until": answer.until,
    }


def place_of(line: Mapping[str, Any]) -> str | None:
    """Return the step that a line of history is about, if it is about one."""
    data = line["data"] if isinstance(line["data"], dict) else {}
    name, scope = line["name"] or data.get("name"), line["scope"] or data.get("scope")
    return None if name is None else places.text_of(name, scope or "")


def seconds_of(step: Standing) -> float | None:
    """Return how long the last attempt of a step run took; None if it has not ended."""
    began, ended = step.row.began_at, step.row.ended_at
    return None if began is None or ended is None else max(0.0, (ended - began).total_seconds())


def _of_wait(wait: Wait) -> dict[str, Any]:
    return {
        "kind": wait.kind,
        "words": wait.words,
        "signal": wait.signal,
        "execution": wait.execution,
        "until": wait.until,
        "done": wait.done,
        "of": wait.of,
    }
