"""Every exception this library raises, in one small tree.

    OrchestratorError
    |- DefinitionError        a flow that cannot be recorded, registered or loaded
    |- InvalidInput           an input or setting refused before anything is stored
    |- NotFound               no such execution, step, flow or version (also a LookupError)
    |- Conflict               what was asked contradicts what is stored
    |  `- LeaseLost           the caller's fencing token is no longer the newest
    |- ExecutionFailed        the execution waited for ended failed or cancelled
    |- StepFailed             a step's failure as data: kind, message, attempts
    |  |- TimedOut            an attempt, or a wait, took longer than it may
    |  `- NotAList            the items of an `each` were not a list
    |- Unavailable            database or broker cannot be reached or used
    `- control flow raised by step bodies: RetryAfter, Reject

The class docstring is the summary; the message names the thing, the reason and what to do.
"""

from __future__ import annotations

from datetime import timedelta


class OrchestratorError(Exception):
    """Base of every error this library raises."""


class DefinitionError(OrchestratorError):
    """A flow cannot be recorded, registered or loaded as it is written."""


class InvalidInput(OrchestratorError):
    """An input was refused before anything was stored."""


class NotFound(OrchestratorError, LookupError):
    """Nothing with that id, key or name is stored."""


class Conflict(OrchestratorError):
    """What was asked contradicts what is stored."""


class LeaseLost(Conflict):
    """Another worker has taken this step: the token is old, the outcome was refused."""


class ExecutionFailed(OrchestratorError):
    """The execution ended without a result.

    Attributes:
        execution_id: the execution that was waited for.
        status: its terminal status, ``failed`` or ``cancelled``.
    """

    def __init__(self, message: str, *, execution_id: str, status: str) -> None:
        super().__init__(message)
        self.execution_id = execution_id
        self.status = status


class StepFailed(OrchestratorError):
    """A step ended badly for a reason the engine itself found."""


class TimedOut(StepFailed):
    """An attempt ran longer than its timeout, or what was waited for did not come in time."""


class NotAList(StepFailed):
    """The items of an ``each`` are not a list."""


class Unavailable(OrchestratorError):
    """The database or the broker cannot be reached or is not usable."""


class RetryAfter(OrchestratorError):
    """Raised by a step body: try this step again after ``delay``, whatever its retry policy says.

    It consumes an attempt but ignores the policy's limit on attempts and its backoff.
    """

    def __init__(self, delay: timedelta | float, reason: str = "") -> None:
        self.delay = delay if isinstance(delay, timedelta) else timedelta(seconds=delay)
        super().__init__(reason or f"asked to be run again after {self.delay}")


class Reject(OrchestratorError):
    """Raised by a step body: fail this step now, without another attempt."""
