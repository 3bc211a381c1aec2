"""The half of an Orchestrator that starts executions: one, many, or in a caller's transaction."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, overload

from orchestrator import codec
from orchestrator.errors import InvalidInput, NotFound
from orchestrator.flow.authoring import Flow
from orchestrator.flow.functions import near_miss
from orchestrator.flow.takes import Takes0, Takes1, Takes2, Takes3, Takes4
from orchestrator.handles import Executions, Handle
from orchestrator.records import Start, Started, StepMessage
from orchestrator.runtime import asked, start
from orchestrator.runtime.catalogue import Catalogue, Registered
from orchestrator.runtime.search import check_text
from orchestrator.settings import Settings
from orchestrator.store import moves, starts
from orchestrator.store.borrowed import Borrowed, borrow
from orchestrator.store.database import Database

if TYPE_CHECKING:
    from orchestrator.store.borrowed import CallersTransaction

P = ParamSpec("P")
A = TypeVar("A")
B = TypeVar("B")
C = TypeVar("C")
D = TypeVar("D")
R = TypeVar("R")

log = logging.getLogger(__name__)

_MARK_EVERY = 0.2  # seconds between marks of confirmed messages while starting many


class Starting(Executions):
    """See the module's text.

    Args:
        database: the connections of this process.
        publish: sends messages without waiting for their confirms.
        collect: returns the messages confirmed so far, waiting at most the given seconds for
            outstanding ones.
        disconnect: leaves the broker; sending connects again.
    """

    def __init__(
        self,
        database: Database,
        settings: Settings,
        catalogue: Catalogue,
        *,
        publish: Callable[[Sequence[StepMessage]], None],
        collect: Callable[[float], list[StepMessage]],
        disconnect: Callable[[], None] | None = None,
    ) -> None:
        self.database = database
        self.settings = settings
        self.catalogue = catalogue
        self._publish = publish
        self._collect = collect
        self._disconnect = disconnect
        self._confirmed: list[StepMessage] = []
        self._marked_at = time.monotonic()
        self._identity = ""

    @overload
    def start(
        self,
        flow: Takes0[R],
        /,
        *,
        key: str | None = None,
        session: CallersTransaction | None = None,
    ) -> Handle[R]: ...
    @overload
    def start(
        self,
        flow: Takes1[A, R],
        a: A,
        /,
        *,
        key: str | None = None,
        session: CallersTransaction | None = None,
    ) -> Handle[R]: ...
    @overload
    def start(
        self,
        flow: Takes2[A, B, R],
        a: A,
        b: B,
        /,
        *,
        key: str | None = None,
        session: CallersTransaction | None = None,
    ) -> Handle[R]: ...
    @overload
    def start(
        self,
        flow: Takes3[A, B, C, R],
        a: A,
        b: B,
        c: C,
        /,
        *,
        key: str | None = None,
        session: CallersTransaction | None = None,
    ) -> Handle[R]: ...
    @overload
    def start(
        self,
        flow: Takes4[A, B, C, D, R],
        a: A,
        b: B,
        c: C,
        d: D,
        /,
        *,
        key: str | None = None,
        session: CallersTransaction | None = None,
    ) -> Handle[R]: ...
    @overload
    def start(self, flow: Flow[P, R], /, *args: P.args, **kwargs: P.kwargs) -> Handle[R]: ...
    @overload
    def start(
        self,
        flow: str,
        /,
        *args: Any,
        key: str | None = None,
        session: CallersTransaction | None = None,
        **kwargs: Any,
    ) -> Handle[Any]: ...
    def start(  # type: ignore[misc]  # a flow's own key or session is given by position
        self,
        flow: Any,
        /,
        *args: Any,
        key: str | None = None,
        session: CallersTransaction | None = None,
        **kwargs: Any,
    ) -> Handle[Any]:
        """Start an execution of a flow, or return the one that has the key.

        The execution is stored when this returns; its first messages are on their way, and are sent
        again by the sweeps if they do not arrive.

        Args:
            flow: the flow, or the name of one of the modules given to `Orchestrator.from_env`.
            args, kwargs: the flow's input, validated against its annotations.
            key: your own id of this work; the same key again is the same execution.
            session: your transaction on our database: the execution is stored by your commit, and
                a rollback leaves nothing of it.

        ``key`` and ``session`` are always those of the start. A flow that has parameters of these
        names takes them by position.

        Raises:
            InvalidInput: the input does not fit the flow's parameters, or ``session`` is not on our
                database; nothing was stored.
            Conflict: the key belongs to an execution with another input.
            NotFound: no flow of that name is known here.
            Unavailable: the database cannot be reached.
        """
        known: Flow[..., Any] = self._flow(flow)
        asked.require_clear(known, args, key=key, session=session)
        document = known.validate_input(args, kwargs)
        return self._start(known, document, key, session)

    def start_document(
        self,
        flow: Flow[..., R] | str,
        document: Mapping[str, Any],
        *,
        key: str | None = None,
        session: CallersTransaction | None = None,
        actor: str = "api",
    ) -> Handle[R]:
        """Start an execution from a JSON document, an object by parameter name.

        Args:
            actor: who starts it, for the history.
        """
        known = self._flow(flow)
        check_text(actor, "the actor")
        return self._start(known, known.validate_document(document), key, session, actor)

    @overload
    def start_many(
        self,
        flow: Takes1[A, R],
        inputs: Iterable[A],
        /,
        *,
        keys: Iterable[str | None] | None = None,
        session: CallersTransaction | None = None,
    ) -> list[Handle[R]]: ...
    @overload
    def start_many(
        self,
        flow: Takes2[A, B, R],
        inputs: Iterable[tuple[A, B]],
        /,
        *,
        keys: Iterable[str | None] | None = None,
        session: CallersTransaction | None = None,
    ) -> list[Handle[R]]: ...
    @overload
    def start_many(
        self,
        flow: Takes3[A, B, C, R],
        inputs: Iterable[tuple[A, B, C]],
        /,
        *,
        keys: Iterable[str | None] | None = None,
        session: CallersTransaction | None = None,
    ) -> list[Handle[R]]: ...
    @overload
    def start_many(
        self,
        flow: Takes4[A, B, C, D, R],
        inputs: Iterable[tuple[A, B, C, D]],
        /,
        *,
        keys: Iterable[str | None] | None = None,
        session: CallersTransaction | None = None,
    ) -> list[Handle[R]]: ...
    @overload
    def start_many(
        self,
        flow: str,
        inputs: Iterable[Any],
        /,
        *,
        keys: Iterable[str | None] | None = None,
        session: CallersTransaction | None = None,
    ) -> list[Handle[Any]]: ...
    def start_many(
        self,
        flow: Any,
        inputs: Iterable[Any],
        /,
        *,
        keys: Iterable[str | None] | None = None,
        session: CallersTransaction | None = None,
    ) -> list[Handle[Any]]:
        """Start many executions of one flow; return their handles in the order of the inputs.

        All inputs are validated before the first execution is stored. They are stored a thousand in
        a transaction: if this fails on the way, calling it again with the same keys starts the rest
        and finds the others.

        Args:
            inputs: for a flow that needs one argument, or none, its first argument; else a tuple of
                arguments each.
            keys: your own ids, one for each input; a key that is there twice stands for one
                execution.
            session: your transaction on our database; then all are stored by your commit.

        Raises:
            InvalidInput: an input does not fit (the message tells which), or there are not as many
                keys as inputs; nothing was stored.
            Conflict: keys belong to executions with other inputs; nothing was stored of their
                thousand and of those after it.
            NotFound: no flow of that name is known here.
            Unavailable: the database cannot be reached.
        """
        known: Flow[..., Any] = self._flow(flow)
        registered = self._registered(known)
        wanted = list(asked.wanted(known, registered, inputs, keys, self.settings))
        distinct, places = asked.distinct(known, wanted)
        answers: list[Started] = []
        if session is not None:
            answers = self._start_in(session, registered, distinct)
        else:
            for chunk in asked.chunks(distinct):
                done, messages = self.database.run(
                    start.start_many, registered, chunk, self.settings, actor="api"
                )
                answers += done
                self._send(messages)
        annotation = known.hints.get("return")
        seen: set[int] = set()
        handles: list[Handle[Any]] = []
        for place in places:
            answer = answers[place]
            created = answer.created and place not in seen
            seen.add(place)
            handles.append(Handle(self, answer.execution_id, annotation, created=created))
        return handles

    def flush(self, timeout: float = 0.5) -> None:
        """Wait up to ``timeout`` seconds for confirms and mark them; others are sent again."""
        self._confirmed += self._collect(timeout)
        self._mark()

    def close(self) -> None:
        """Flush and close this process's connections; using it again opens them again."""
        self.flush()
        if self._disconnect is not None:
            self._disconnect()
        self.database.close()

    def _flow(self, flow: Flow[..., R] | str) -> Flow[..., R]:
        if isinstance(flow, Flow):
            self.catalogue.add(flow)
            return flow
        if not isinstance(flow, str):
            raise InvalidInput(
                f"a {type(flow).__qualname__} is started, not a flow: give what @flow made, or its"
                " name"
            )
        if flow not in self.catalogue.flows:
            known = sorted(self.catalogue.flows)
            hint = near_miss(flow, known) or f"; it has {', '.join(known) or 'none'}"
            raise NotFound(
                f"no flow {flow!r} in this program{hint}: name its module in"
                " Orchestrator.from_env(modules=[...])"
            )
        return self.catalogue.flows[flow]

    def _registered(self, flow: Flow[..., Any]) -> Registered:
        return self.database.run(self.catalogue.registered, flow.name)

    def _start(
        self,
        flow: Flow[..., R],
        document: Mapping[str, codec.JSON],
        key: str | None,
        session: CallersTransaction | None,
        actor: str = "api",
    ) -> Handle[R]:
        registered = self._registered(flow)
        if session is None:
            started, messages = self.database.run(
                start.start,
                registered,
                document,
                self.settings,
                execution_id=start.new_id(),
                key=key,
                actor=actor,
            )
            self._send(messages)
        else:
            one = start.wanted(registered, document, self.settings, key=key)
            [started] = self._start_in(session, registered, [one], actor)
        return Handle(self, started.execution_id, flow.hints.get("return"), created=started.created)

    def _start_in(
        self,
        session: CallersTransaction,
        registered: Registered,
        wanted: Sequence[Start],
        actor: str = "api",
    ) -> list[Started]:
        """Start in the caller's transaction; have the messages sent when it is committed."""
        borrowed = borrow(session)
        transaction = self._require_ours(borrowed)
        answers: list[Started] = []
        messages: list[StepMessage] = []
        committed = False
        for chunk in asked.chunks(wanted):
            done = start.start_in(
                borrowed, registered, chunk, self.settings, transaction=transaction, actor=actor
            )
            answers += done.answers
            messages += done.messages
            committed = done.committed
        if messages and borrowed.on_commit is not None:  # else the commit wakes a pump
            send = partial(self._send_committed, registered, messages)
            if committed:
                send()
            else:
                borrowed.on_commit(send)
        return answers

    def _require_ours(self, borrowed: Borrowed) -> str:
        """Return the number of the caller's transaction; refuse one in another database."""
        identity, name, transaction = starts.database_of_caller(borrowed)
        if identity != self._identity:  # not asked yet, or the server was started again
            self._identity = self.database.run(starts.database_of)
        if identity != self._identity:
            raise InvalidInput(
                f"session= is a transaction in database {name!r}, and executions are kept in"
                f" {self.database.address}: one transaction cannot span both; commit first and"
                " start without session=, or keep your tables in our database"
            )
        return transaction

    def _send_committed(self, registered: Registered, messages: Sequence[StepMessage]) -> None:
        """After the caller's commit: send what is there now. The caller must not fail by it."""
        try:
            self._send(start.committed(self.database.hot(), registered, messages))
        except Exception as error:  # noqa: BLE001 - the rows are there; the sweep sends them
            self.database.forget()
            log.warning("the first messages of %s are left to a sweep: %s", registered.flow, error)

    def _send(self, messages: Sequence[StepMessage]) -> None:
        if messages:
            self._publish(messages)
        self._confirmed += self._collect(0)
        if self._confirmed and time.monotonic() - self._marked_at > _MARK_EVERY:
            self._mark()

    def _mark(self) -> None:
        confirmed, self._confirmed = self._confirmed, []
        self._marked_at = time.monotonic()
        if confirmed:
            self.database.run(moves.mark_sent, confirmed)
