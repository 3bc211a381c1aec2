"""What the commands of one invocation share: settings, database, flows, and the way to the broker.

Everything opens on first use. Reading takes the database only: Celery is not even imported, and the
user's code is not needed, because definitions are stored.
"""

from __future__ import annotations

import getpass
import importlib
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from datetime import timedelta
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from uuid import UUID

import click

from orchestrator.errors import InvalidInput, OrchestratorError, Unavailable
from orchestrator.flow.authoring import Flow
from orchestrator.flow.functions import near_miss
from orchestrator.runtime import search
from orchestrator.runtime.catalogue import Catalogue
from orchestrator.settings import Settings
from orchestrator.store import migrate
from orchestrator.store.database import Database

if TYPE_CHECKING:
    import kombu

    from orchestrator.client import Orchestrator
    from orchestrator.records import StepMessage
    from orchestrator.workers.sender import Sender

F = TypeVar("F", bound=Callable[..., Any])

#: A person waits: an outage of the database is told after so long.
PATIENCE = timedelta(seconds=5)
#: So long the end of a command waits for the broker's confirms, in seconds.
_CONFIRMS = 2.0


class Desk:
    """See the module's text.

    Args:
        app: a Celery application of which this is a sub-command; if it is attached its flows and
            settings are used.
    """

    def __init__(self, app: Any = None) -> None:
        self.app = app
        self.modules: list[str] = []
        self._crew = getattr(app, "orchestrator", None)
        self._unconfirmed = 0

    @property
    def attached(self) -> bool:
        """Whether this is a sub-command of an application that works on flows."""
        return self._crew is not None

    @cached_property
    def settings(self) -> Settings:
        """The settings of the attached application, else those of the environment."""
        return Settings() if self._crew is None else self._crew.settings

    @cached_property
    def database(self) -> Database:
        """The database, which is given up after a few seconds, or at once if it refuses us."""
        with suppress(Unavailable):  # it may come
            migrate.look(self.settings.database_url)
        return Database(
            self.settings.database_url,
            patience=PATIENCE,
            transaction_pooling=self.settings.transaction_pooling,
        )

    @cached_property
    def catalogue(self) -> Catalogue:
        """The flows of the modules that were named, by ``-A`` or by ORCHESTRATOR_MODULES.

        Raises:
            InvalidInput: a module is not there.
        """
        if self._crew is not None:
            self.app.loader.import_default_modules()  # attached modules are loaded with the others
        made = Catalogue(() if self._crew is None else self._crew.catalogue.flows.values())
        for name in self.modules or (self.settings.modules if self._crew is None else ()):
            for flow in _flows_of(_imported(name)):
                made.add(flow)
        return made

    @cached_property
    def known(self) -> Catalogue:
        """The flows of the modules, without insisting: an operator may not have the code."""
        try:
            return self.catalogue
        except InvalidInput:
            if self.modules:
                raise
            return Catalogue()

    @cached_property
    def orchestrator(self) -> Orchestrator:
        """What carries out acts and sends messages; opened only for what sends."""
        # Celery takes longer to import than most commands to run
        from orchestrator.client import Orchestrator  # noqa: PLC0415

        return Orchestrator(
            self.database,
            self.settings,
            self.known,
            publish=self._publish,
            collect=self._collect,
        )

    @cached_property
    def sender(self) -> Sender:
        """The way to the broker."""
        from orchestrator.workers import connect  # noqa: PLC0415 - as above

        return connect.sender(self.broker, self.database)

    @cached_property
    def broker(self) -> Callable[[], kombu.Connection]:
        """What opens a connection to the broker."""
        from orchestrator.workers import connect  # noqa: PLC0415 - as above

        return connect.broker_of(self.app) if self.attached else connect.broker(self.settings)

    def execution(self, name: str, flow: str | None = None) -> UUID:
        """Return the execution that was named: by id, by its beginning, or by key.

        Raises:
            NotFound: there is none.
            Conflict: there are several.
        """
        return search.resolve(self.database, name, flow)

    def flow(self, name: str) -> Flow[..., Any]:
        """Return a flow of the modules.

        Raises:
            InvalidInput: no module was named, or none holds it.
        """
        flows = self.catalogue.flows
        if name in flows:
            return flows[name]
        if not flows:
            raise InvalidInput(
                f"the flow {name!r} is needed to check its input, and no module holds a flow: name "
                "its module with -A shop.flows or ORCHESTRATOR_MODULES=shop.flows"
            )
        hint = near_miss(name, flows) or f"; they hold {', '.join(sorted(flows))}"
        raise InvalidInput(f"the modules hold no flow {name!r}{hint}")

    def _publish(self, messages: Sequence[StepMessage]) -> None:
        self._unconfirmed += len(messages)
        self.sender.publish(messages)

    def _collect(self, timeout: float) -> list[StepMessage]:
        confirmed = self.sender.collect(timeout) if self._sends else []
        self._unconfirmed -= len(confirmed)
        return confirmed

    @property
    def _sends(self) -> bool:
        return "sender" in self.__dict__

    def error(self, message: str, **_: Any) -> None:
        """Say what Celery has against an option of ours: it asks whatever a command shares."""
        click.echo(click.unstyle(message), err=True)

    def close(self) -> None:
        """Confirm what was sent and close what was opened."""
        if self._sends:
            with suppress(OrchestratorError):  # the sweeps send again what is not marked
                self.orchestrator.flush(_CONFIRMS)
            self.sender.close()
            if self._unconfirmed > 0:
                click.echo(
                    "Note: the broker has not confirmed what was sent; it is stored, and workers "
                    "send it when the broker takes it.",
                    err=True,
                )
        if "database" in self.__dict__:
            self.database.close()


pass_desk = click.make_pass_decorator(Desk)


def actor_here() -> str:
    """Return who acts when nobody is named: the user of the operating system."""
    try:
        return f"cli:{getpass.getuser()}"
    except (KeyError, OSError):
        return "cli"


def common(command: F) -> F:
    """Give a command what every one takes: the modules and ``--json``."""

    def name_modules(ctx: click.Context, _: click.Parameter, value: tuple[str, ...]) -> None:
        desk = ctx.find_object(Desk)
        if desk is not None:
            desk.modules += [part for text in value for part in text.replace(",", " ").split()]

    command = click.option(
        "-A",
        "--app",
        "modules",
        metavar="MODULE",
        multiple=True,
        expose_value=False,
        callback=name_modules,
        help="Module that holds your flows; by default those in ORCHESTRATOR_MODULES.",
    )(command)
    return click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")(command)


def by_operator(command: F) -> F:
    """Give a command that changes something the name of who does it."""
    return click.option(
        "--actor",
        default=actor_here,
        show_default="your user name",
        help="Who does it, for the audit.",
    )(command)


of_flow = click.option("--flow", metavar="NAME", help="Flow whose keys are meant.")
unmasking = click.option(
    "--unmasked", is_flag=True, help="Show values that are secret by the names of their fields."
)


def secrets_unless(unmasked: bool, desk: Desk) -> tuple[str, ...]:
    """Return the names of what a command does not show: none if it was asked to show all."""
    return () if unmasked else desk.settings.masked


def _imported(name: str) -> Any:
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)  # as Celery's own command does
    try:
        return importlib.import_module(name)
    except Exception as error:  # whatever the user's module raises is told, not shown
        raise not_imported(name, error) from error


def not_imported(name: str, error: Exception) -> OrchestratorError:
    """Return what to say of a module of the user's that cannot be imported."""
    if isinstance(error, OrchestratorError):
        return error
    if not isinstance(error, ModuleNotFoundError):
        return InvalidInput(
            f"the module {name} cannot be imported: {_raised(error)}; "
            f"`python -c 'import {name}'` shows all of it"
        )
    missing = error.name or name
    if name != missing and not name.startswith(f"{missing}."):
        return InvalidInput(
            f"the module {name} cannot be imported: it needs {missing}, which is not installed"
        )
    so = "" if missing == name else f", so {name} cannot be imported"
    return InvalidInput(
        f"there is no module {missing} on the Python path{so}: run this in the folder that holds "
        "it, or set PYTHONPATH"
    )


def _raised(error: BaseException) -> str:
    """Return an error in one line, with where it was raised; a SyntaxError says so itself."""
    told = " ".join(f"{type(error).__name__}: {error}".split())
    frames = traceback.extract_tb(error.__traceback__)
    if isinstance(error, SyntaxError) or not frames:
        return told
    return f"{told} ({Path(frames[-1].filename).name}, line {frames[-1].lineno})"


def _flows_of(module: Any) -> Iterator[Flow[..., Any]]:
    seen: set[int] = set()
    for value in list(vars(module).values()):
        found = [value] if isinstance(value, Flow) else _attached(value)
        for flow in found:
            if id(flow) not in seen:
                seen.add(id(flow))
                yield flow


def _attached(value: Any) -> list[Flow[..., Any]]:
    """Return the flows of a Celery application that `orchestrator.workers.app.attach` was given."""
    crew = getattr(value, "__dict__", {}).get("orchestrator") if value is not None else None
    catalogue = getattr(crew, "catalogue", None)
    return list(catalogue.flows.values()) if isinstance(catalogue, Catalogue) else []
