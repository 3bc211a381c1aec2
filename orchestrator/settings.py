"""Every setting, read from ``ORCHESTRATOR_*`` variables into one frozen object.

``Settings()`` reads the environment, ``Settings(lease="1s")`` sets some values by hand. Durations
are written ``500ms``, ``30s``, ``5m``, ``2h``, ``7d``, as a number of seconds or in ISO 8601
(``PT30S``). A variable with an empty value counts as not set; a name that is no setting is refused,
so that a misspelt one is not silently without effect. The defaults fit production: nobody has to
know more of these than the two addresses.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Iterable
from datetime import timedelta
from typing import Annotated, Any, Self
from urllib.parse import unquote, urlsplit

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WrapValidator,
    model_validator,
)
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from orchestrator.errors import InvalidInput

PREFIX = "ORCHESTRATOR_"
_FOREIGN = "ORCHESTRATOR_TEST_"  # read by the tests of this project

_UNITS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400}
_NO_PORT = (
    "names a port that is no number: write host:port, and special characters of a password"
    " as %40 for @, %2F for /"
)  # what it holds may be half a password
_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h|d)?")


def _duration(value: Any, read: ValidatorFunctionWrapHandler) -> timedelta:
    match = _DURATION.fullmatch(value.strip()) if isinstance(value, str) else None
    try:
        seconds = float(match[1]) * _UNITS[match[2] or "s"] if match else None
        duration: timedelta = read(value) if seconds is None else timedelta(seconds=seconds)
    except (ValueError, OverflowError):
        raise ValueError("is no duration; write it as 500ms, 30s, 5m, 2h or 7d") from None
    if duration <= timedelta(0):
        raise ValueError("must be longer than nothing")
    return duration


def _queue_name(name: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9._:-]{1,200}", name):
        raise ValueError("must be 1 to 200 letters, digits, dots, colons, dashes or underscores")
    return name


def _names(value: Any) -> Any:
    return tuple(value.replace(",", " ").split()) if isinstance(value, str) else value


def _postgresql_url(url: str) -> str:
    scheme, separator, rest = url.partition("://")
    if not separator or scheme not in {"postgresql", "postgres", "postgresql+psycopg"}:
        raise ValueError("is no PostgreSQL address; write postgresql://user:password@host/database")
    if not re.fullmatch(r"\d*", _port(rest)):
        raise ValueError(_NO_PORT)
    return f"postgresql://{rest}"


def _port(rest: str) -> str:
    """Return what stands for the port in an address whose password may be written as it is."""
    place = rest.partition("?")[0].rpartition("@")[2].partition("/")[0].rpartition("]")[2]
    return place.rpartition(":")[2] if ":" in place else ""


def _broker_url(url: str) -> str:
    scheme, separator, _ = url.partition("://")
    if not separator or scheme not in {"amqp", "amqps", "pyamqp", "filesystem", "memory"}:
        raise ValueError("is no broker address; write amqp://user:password@host:5672//")
    if scheme == "filesystem":
        _folder(url)
    try:
        _ = urlsplit(url).port
    except ValueError:
        raise ValueError(_NO_PORT) from None
    return url


Duration = Annotated[timedelta, WrapValidator(_duration)]
Count = Annotated[int, Field(ge=1)]


class Settings(BaseSettings):
    """What can be set, with its default; the variable of ``lease`` is ``ORCHESTRATOR_LEASE``."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        env_ignore_empty=True,
        extra="forbid",
        frozen=True,
        hide_input_in_errors=True,
        use_attribute_docstrings=True,
    )

    database_url: Annotated[str, AfterValidator(_postgresql_url)] = (
        "postgresql://localhost/orchestrator"
    )
    """The PostgreSQL database that holds every execution; its password appears in no message."""

    transaction_pooling: bool = False
    """Between us and PostgreSQL is a pooler that shares sessions by transaction (PgBouncer)."""

    broker_url: Annotated[str, AfterValidator(_broker_url)] = "amqp://guest:guest@localhost:5672//"
    """RabbitMQ, or a folder: ``filesystem:///var/lib/orchestrator/broker``."""

    modules: Annotated[tuple[str, ...], NoDecode, BeforeValidator(_names)] = ()
    """Modules whose flows a worker runs, separated by commas: ``shop.flows,shop.reports``."""

    queue: Annotated[str, AfterValidator(_queue_name)] = "orchestrator"
    """The queue of steps that name none."""

    trigger_queue: Annotated[str, AfterValidator(_queue_name)] = "orchestrator.triggers"
    """The queue whose messages, of any program, start executions."""

    lease: Duration = timedelta(seconds=30)
    """How long a claim holds without being renewed; the longest wait for a worker cut off alive."""

    beat_interval: Duration = timedelta(seconds=2)
    """How often a worker process writes that it lives, and renews leases that are half over."""

    outage_guard: Duration = timedelta(seconds=15)
    """How long a sweeper must have beaten without a gap before it declares anyone dead."""

    silent_after: Duration = timedelta(seconds=10)
    """Behind such a pooler a worker process that has not beaten for so long counts as dead."""

    max_deaths: Count = 3
    """Deaths of workers that a step may cause before it is put into quarantine."""

    unsent_after: Duration = timedelta(seconds=5)
    """A message not confirmed for so long is sent again."""

    lost_after: Duration = timedelta(seconds=60)
    """A message is presumed lost when one sent so much later to its queue was already claimed."""

    lost_idle_after: Duration = timedelta(minutes=10)
    """A message is presumed lost when nothing was claimed from its queue for so long."""

    delivery_budget: Duration = timedelta(minutes=5)
    """How long one message may keep a worker; then a chain of inline steps goes on by a new one."""

    ack_budget: Duration = timedelta(minutes=20)
    """How long a message may stay unacknowledged; RabbitMQ closes channels at 30 minutes."""

    reserved_after: Duration = timedelta(seconds=60)
    """A message that a worker has reserved and not begun for so long is offered to others."""

    keep: Duration = timedelta(days=7)
    """How long an execution that has ended is kept."""

    key_keep: Duration = timedelta(days=30)
    """How long the key of an execution stays taken; longer than any message lives."""

    inline_output_bytes: Annotated[int, Field(ge=0)] = 1024
    """Outputs up to this size are stored in the step's own row."""

    max_input_bytes: Count = 1 << 20
    """The largest input of an execution, as JSON (1 MiB)."""

    max_result_bytes: Count = 1 << 24
    """The largest output of a step or an execution, as JSON (16 MiB)."""

    fan_out_chunk: Count = 1000
    """Items of a fan-out that are ordered in one transaction."""

    pump_interval: Duration = timedelta(seconds=1)
    """How often an idle worker looks for what is due or unsent."""

    sweep_limit: Count = 500
    """Rows that one call of a sweep takes."""

    lock_timeout: Duration = timedelta(seconds=10)
    """PostgreSQL's lock_timeout on our connections."""

    masked: Annotated[tuple[str, ...], NoDecode, BeforeValidator(_names)] = (
        *("password", "passwd", "passphrase", "secret", "token", "credential", "authorization"),
        *("cookie", "card", "cvv", "cvc", "iban", "pin", "ssn", "api_key", "private_key"),
    )
    """Words in names of fields whose values monitors and commands do not show: ``card,token``."""

    @property
    def long_queue(self) -> str:
        """The queue of steps that name none and may run for longer than `ack_budget`."""
        return f"{self.queue}.long"

    def __init__(self, **values: Any) -> None:
        _refuse_unknown(os.environ)
        try:
            super().__init__(**values)
        except ValidationError as error:
            raise InvalidInput("; ".join(_sentences(error))) from None

    @model_validator(mode="after")
    def _fit_together(self) -> Self:
        if self.lease < timedelta(seconds=1):
            raise ValueError("lease must be at least 1 second, so that it can be renewed in time")
        if self.transaction_pooling and self.silent_after < 2 * self.beat_interval:
            raise ValueError(
                f"silent_after ({self.silent_after}) must be at least two beats"
                f" ({self.beat_interval} each): one that comes late is no death"
            )
        for smaller, larger, reason in _ORDER:
            if getattr(self, smaller) > getattr(self, larger):
                raise ValueError(
                    f"{smaller} ({getattr(self, smaller)}) must not exceed "
                    f"{larger} ({getattr(self, larger)}): {reason}"
                )
        return self

    def __repr_args__(self) -> Iterable[tuple[str | None, Any]]:
        for name, value in super().__repr_args__():
            yield name, without_password(value) if name in {"database_url", "broker_url"} else value


_ORDER = (
    ("unsent_after", "lost_after", "a message that was never sent is not lost"),
    ("lost_after", "lost_idle_after", "a silent queue proves less than a later message"),
    ("beat_interval", "lease", "a lease is renewed with a beat"),
    ("beat_interval", "outage_guard", "the guard must see beats"),
    ("delivery_budget", "ack_budget", "a delivery ends with its acknowledgement"),
    ("keep", "key_keep", "a key outlives its execution"),
    ("inline_output_bytes", "max_result_bytes", "no larger output exists"),
)


def without_password(url: str) -> str:
    """Return the url as it may be shown: with ``***`` for a password."""
    url = re.sub(r"(://[^/@:]*):.*@", r"\1:***@", url)
    return re.sub(r"([?&]\w*password=)[^&]*", r"\1***", url)


def filesystem_transport(url: str) -> dict[str, Any]:
    """Return kombu's transport options for ``filesystem:///folder``; touches no file.

    `orchestrator.embedded` makes the folders named here.
    """
    try:
        folder = _folder(url)
    except ValueError as error:
        raise InvalidInput(f"{url} {error}") from None
    return {
        "data_folder_in": f"{folder}/messages",
        "data_folder_out": f"{folder}/messages",
        "control_folder": f"{folder}/control",
        "processed_folder": f"{folder}/processed",
        "store_processed": False,
        "polling_interval": 0.02,
    }


def _folder(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme != "filesystem" or parts.netloc or not parts.path.strip("/"):
        raise ValueError("names no folder; write filesystem:///absolute/folder")
    return unquote(parts.path).rstrip("/")


def _refuse_unknown(environ: Iterable[str]) -> None:
    names = [name.upper() for name in environ if name.upper().startswith(PREFIX)]
    asked = {name: name.removeprefix(PREFIX).lower() for name in sorted(names)}
    unknown = [
        _hint(name, field, PREFIX)
        for name, field in asked.items()
        if field not in Settings.model_fields and not name.startswith(_FOREIGN)
    ]
    if unknown:
        raise InvalidInput("; ".join(unknown))


def _hint(name: str, field: str, prefix: str = "") -> str:
    near = difflib.get_close_matches(field, Settings.model_fields, n=1)
    cure = f"; did you mean {prefix}{near[0].upper() if prefix else near[0]}?" if near else ""
    return f"{name} is no setting{cure}"


def _sentences(error: ValidationError) -> Iterable[str]:
    for part in error.errors(include_url=False, include_input=False):
        reason = part["msg"]
        name = str(part["loc"][0]) if part["loc"] else ""
        if part["type"] == "extra_forbidden":
            yield _hint(name, name)
        elif part["type"] == "value_error":  # ours: the sentence goes on after the name
            reason = reason.removeprefix("Value error, ")
            yield f"{PREFIX}{name.upper()} {reason}" if name else reason
        else:
            yield f"{PREFIX}{name.upper()}: {reason}"
