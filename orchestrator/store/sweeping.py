"""What the sweeps look at: rows whose `attend_at` has come (protocol.md 5, 6, 8).

One index serves due, unsent, lost and expired leases alike. A sweep first takes the rows' locks,
skipping locked ones, and judges them in the next statement, where rows of other tables are current.
What it reads of executions and workers is advisory: the claim and the record check again under
their own locks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from orchestrator.records import StepAddress
from orchestrator.store.database import Connection

_LOCK = """
SELECT execution_id, name, scope, run FROM orchestrator.steps
 WHERE attend_at <= orchestrator.now() ORDER BY attend_at LIMIT %s FOR NO KEY UPDATE SKIP LOCKED
"""

# A message is wanted anew when the newest is used up (wanted before the row was last claimed or its
# lease last renewed, it may have come while the row was held, and was absorbed), when the newest
# was not confirmed, or when a due time has come; a confirmed one is presumed lost by the rule of
# protocol.md 6, at doubling distances. What a worker claimed that ended long ago is of no use: had
# nobody claimed since, the queue would be silent. The older a row the more seldom it is looked at,
# so that a deep backlog costs little, but at the moment from which a silent queue tells.
_JUDGE = """
WITH clock AS MATERIALIZED (SELECT orchestrator.now() AS now),
traffic AS MATERIALIZED (
    SELECT c.key AS queue, max((c.value->>0)::timestamptz) AS newest,
           max((c.value->>1)::timestamptz) AS latest
      FROM orchestrator.workers w, jsonb_each(w.claims) c
     WHERE w.ended_at IS NULL OR w.ended_at > orchestrator.now() - %(lost_idle)s GROUP BY 1),
seen AS MATERIALIZED (
    SELECT s.execution_id, s.name, s.scope, s.run, e.status AS execution, e.paused,
           e.definition_id, d.name AS flow,
           x.key, s.status NOT IN ('ready', 'running') AS head,
           s.status = 'running' AS running,
           w.ended_at IS NOT NULL AS orphan,
           s.status = 'running' AND s.lease_until > c.now AND w.ended_at IS NULL AS held,
           s.due_at > c.now AS early,
           s.dispatch <= s.claimed OR s.sent < s.dispatch OR s.due_at IS NOT NULL AS unsent,
           f.factor,
           s.dispatched_at <= c.now - %(lost_after)s * f.factor
               AND (q.newest >= s.dispatched_at + %(lost_after)s * f.factor
                    OR s.dispatched_at <= c.now - %(lost_idle)s
                       AND coalesce(q.latest <= c.now - %(lost_idle)s, true)) AS lost
      FROM unnest(%(ids)s::uuid[], %(names)s::text[], %(scopes)s::text[], %(runs)s::smallint[])
           AS a(execution_id, name, scope, run)
      JOIN orchestrator.steps s USING (execution_id, name, scope, run)
      LEFT JOIN orchestrator.executions e ON e.id = s.execution_id
      LEFT JOIN orchestrator.execution_state x ON x.execution_id = s.execution_id
      LEFT JOIN orchestrator.definitions d ON d.id = e.definition_id
      LEFT JOIN orchestrator.workers w ON w.id = s.holder
      LEFT JOIN traffic q ON q.queue = s.queue
     CROSS JOIN clock c
     CROSS JOIN LATERAL (
         SELECT power(2, least(greatest(s.dispatch - s.claimed - 1, 0), 6)) AS factor) f),
verdict AS MATERIALIZED (
    SELECT s.*, CASE
               WHEN s.execution IS NULL OR s.execution IN ('succeeded', 'failed', 'cancelled')
               THEN 'over'
               WHEN s.head THEN 'head'
               WHEN s.held THEN 'held'
               WHEN s.running AND NOT s.orphan AND NOT %(steady)s THEN 'wait'
               WHEN s.running AND s.execution <> 'running' THEN 'in doubt'
               WHEN s.paused THEN 'paused'
               WHEN s.early THEN 'early'
               WHEN s.unsent OR s.lost THEN 'send'
               ELSE 'sent' END AS verdict
      FROM seen s)
UPDATE orchestrator.steps s
   SET dispatch = s.dispatch + (v.verdict = 'send')::int,
       dispatched_at = CASE WHEN v.verdict = 'send' THEN c.now ELSE s.dispatched_at END,
       due_at = CASE WHEN v.verdict = 'send' THEN NULL ELSE s.due_at END,
       attend_at = CASE v.verdict
           WHEN 'head' THEN c.now + %(lease)s WHEN 'over' THEN NULL
           WHEN 'held' THEN s.lease_until
           WHEN 'early' THEN s.due_at
           WHEN 'paused' THEN CASE WHEN s.status = 'running' THEN c.now + %(lost_after)s END
           WHEN 'send' THEN c.now + least(%(unsent_after)s * v.factor, %(lost_after)s)
           WHEN 'sent' THEN greatest(
               c.now + %(lost_after)s / 2, s.dispatched_at + %(lost_after)s,
               least(c.now + least((c.now - s.dispatched_at) / 2, %(lost_idle)s / 4),
                     CASE WHEN s.dispatched_at + %(lost_idle)s > c.now
                          THEN s.dispatched_at + %(lost_idle)s END))
           ELSE c.now + %(unsent_after)s END
  FROM verdict v, clock c
 WHERE (s.execution_id, s.name, s.scope, s.run) = (v.execution_id, v.name, v.scope, v.run)
RETURNING v.verdict, s.execution_id, s.name, s.scope, s.run, v.definition_id, v.flow, v.key,
          s.dispatch, s.queue,
          s.token, v.lost AND NOT v.unsent, v.orphan
"""

# The head of an inline segment, ended or an each that waits, keeps an eye on the rows behind it,
# which have no `attend_at` of their own. Rows that nobody holds get one.
_WAKE_STRANDED = """
WITH clock AS MATERIALIZED (SELECT orchestrator.now() AS now),
stranded AS MATERIALIZED (
    SELECT s.execution_id, s.name, s.scope, s.run
      FROM orchestrator.steps s
      LEFT JOIN orchestrator.workers w ON w.id = s.holder
     CROSS JOIN clock c
     WHERE s.execution_id = ANY (%s) AND s.status = 'running' AND s.attend_at IS NULL
       AND (s.lease_until <= c.now OR w.ended_at IS NOT NULL)
     ORDER BY 1, 2, 3, 4 FOR NO KEY UPDATE OF s SKIP LOCKED)
UPDATE orchestrator.steps s SET attend_at = c.now FROM stranded b, clock c
 WHERE (s.execution_id, s.name, s.scope, s.run) = (b.execution_id, b.name, b.scope, b.run)
"""

# Only under the lock of its execution is it known that no record is putting a row behind a head
# right now. Who holds that lock may wait for rows that this sweep has locked: so it is not waited
# for, and the head is looked at again.
_LOCK_EXECUTIONS = """
SELECT id FROM orchestrator.executions WHERE id = ANY (%s) ORDER BY id
   FOR NO KEY UPDATE SKIP LOCKED
"""
_RELIEVE_HEADS = """
UPDATE orchestrator.steps s SET attend_at = NULL
  FROM unnest(%(ids)s::uuid[], %(names)s::text[], %(scopes)s::text[], %(runs)s::smallint[])
       AS h(execution_id, name, scope, run)
 WHERE (s.execution_id, s.name, s.scope, s.run) = (h.execution_id, h.name, h.scope, h.run)
   AND NOT EXISTS (
       SELECT 1 FROM orchestrator.steps b
        WHERE b.execution_id = h.execution_id AND b.status = 'running' AND b.attend_at IS NULL)
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Attended:
    """A row that a sweep looked at.

    Attributes:
        verdict: ``send`` (a message was wanted: send number ``number``), ``in doubt`` (running in a
            closing execution with nobody holding it), or what it waits for: ``held``, ``sent``,
            ``early``, ``paused``, ``wait``, ``head``, ``over``.
        lost: the message before this one is presumed lost.
        orphan: the holder's incarnation has ended.
    """

    verdict: str
    address: StepAddress
    definition_id: int
    flow: str
    key: str | None
    number: int
    queue: str
    token: int
    lost: bool
    orphan: bool


def attend(
    connection: Connection,
    limit: int,
    *,
    unsent_after: timedelta,
    lost_after: timedelta,
    lost_idle_after: timedelta,
    lease: timedelta,
    steady: bool,
) -> list[Attended]:
    """Look at up to ``limit`` rows whose time has come and want messages for those that need one.

    Args:
        steady: the sweeper has beaten long enough without a gap to take expired leases for real.
    """
    with connection.transaction():
        locked = connection.execute(_LOCK, (limit,)).fetchall()
        if not locked:
            return []
        rows = connection.execute(
            _JUDGE,
            {
                **_columns(locked),
                "unsent_after": unsent_after,
                "lost_after": lost_after,
                "lost_idle": lost_idle_after,
                "lease": lease,
                "steady": steady,
            },
        ).fetchall()
        _look_behind(connection, [row[1:5] for row in rows if row[0] == "head"])
    return [
        Attended(
            verdict=row[0],
            address=StepAddress(*row[1:5]),
            definition_id=row[5],
            flow=row[6],
            key=row[7],
            number=row[8],
            queue=row[9],
            token=row[10],
            lost=bool(row[11]),
            orphan=row[12],
        )
        for row in rows
    ]


def _look_behind(connection: Connection, heads: Sequence[Sequence[object]]) -> None:
    """Attend to stranded rows behind these heads; relieve the heads that have none behind them."""
    if not heads:
        return
    executions = list({head[0] for head in heads})
    connection.execute(_WAKE_STRANDED, (executions,))
    locked = {row[0] for row in connection.execute(_LOCK_EXECUTIONS, (executions,)).fetchall()}
    connection.execute(_RELIEVE_HEADS, _columns([head for head in heads if head[0] in locked]))


def is_abandoned(connection: Connection, address: StepAddress, token: int) -> bool:
    """Return whether nobody holds a running step run under this token any more; lock it if so."""
    row = connection.execute(
        """
        SELECT 1 FROM orchestrator.steps s LEFT JOIN orchestrator.workers w ON w.id = s.holder
         WHERE s.execution_id = %s AND s.name = %s AND s.scope = %s AND s.run = %s
           AND s.status = 'running' AND s.token = %s
           AND (s.lease_until <= orchestrator.now() OR w.ended_at IS NOT NULL)
           FOR NO KEY UPDATE OF s
        """,
        (*address, token),
    ).fetchone()
    return row is not None


def next_due(connection: Connection) -> timedelta | None:
    """Return how long from now the next row wants to be looked at; None when no row ever does."""
    row = connection.execute(
        "SELECT attend_at - orchestrator.now() FROM orchestrator.steps WHERE attend_at IS NOT NULL"
        " ORDER BY attend_at LIMIT 1"
    ).fetchone()
    return None if row is None else row[0]


def offer_again(connection: Connection, address: StepAddress, number: int) -> bool:
    """Have the sweep send anew for a ready step run whose newest message, ``number``, is stuck."""
    return (
        connection.execute(
            """
            UPDATE orchestrator.steps
               SET due_at = orchestrator.now(), attend_at = orchestrator.now()
             WHERE execution_id = %s AND name = %s AND scope = %s AND run = %s
               AND status = 'ready' AND dispatch = %s AND due_at IS NULL
            """,
            (*address, number),
        ).rowcount
        == 1
    )


def put_off(connection: Connection, address: StepAddress, number: int, *, pause: timedelta) -> bool:
    """Want a new message for a ready step run, whose newest one, ``number``, died, after a pause.

    The pause doubles with each message that nobody has claimed.
    """
    return (
        connection.execute(
            """
            UPDATE orchestrator.steps s
               SET due_at = orchestrator.now() + %(pause)s * factor,
                   attend_at = orchestrator.now() + %(pause)s * factor
              FROM (SELECT r.execution_id, r.name, r.scope, r.run,
                           power(2, least(greatest(r.dispatch - r.claimed - 1, 0), 6)) AS factor
                      FROM orchestrator.steps r
                     WHERE r.execution_id = %(execution)s AND r.name = %(name)s
                       AND r.scope = %(scope)s AND r.run = %(run)s AND r.status = 'ready'
                       AND r.dispatch = %(number)s AND r.due_at IS NULL
                       FOR NO KEY UPDATE) d
             WHERE (s.execution_id, s.name, s.scope, s.run)
                 = (d.execution_id, d.name, d.scope, d.run)
            """,
            {
                "pause": pause,
                "execution": address.execution_id,
                "name": address.name,
                "scope": address.scope,
                "run": address.run,
                "number": number,
            },
        ).rowcount
        == 1
    )


def look_anew(connection: Connection, execution_id: UUID) -> None:
    """Have the sweeps look at what runs in a locked execution that was paused until now.

    Whoever held a step run may have gone meanwhile, and a message that came for it was absorbed.
    """
    connection.execute(
        """
        UPDATE orchestrator.steps
           SET claimed = greatest(claimed, dispatch),
               attend_at = CASE WHEN attend_at IS NOT NULL THEN orchestrator.now() END
         WHERE execution_id = %s AND status = 'running'
        """,
        (execution_id,),
    )


def presume_lost(connection: Connection, queues: Sequence[str], before: datetime) -> int:
    """Have the sweep send anew for the unclaimed step runs of these queues sent before a moment.

    For the file broker, where a killed worker takes the messages it had reserved with it
    (protocol.md 6). One of them may have been for a step run whose first holder is gone, which is
    still running by its row.
    """
    return connection.execute(
        """
        UPDATE orchestrator.steps s SET due_at = orchestrator.now(), attend_at = orchestrator.now()
         WHERE attend_at IS NOT NULL AND queue = ANY (%s)
           AND (status = 'ready' OR status = 'running' AND EXISTS (
                   SELECT 1 FROM orchestrator.workers w
                    WHERE w.id = s.holder AND w.ended_at IS NOT NULL))
           AND dispatched_at < %s
           AND dispatch > claimed AND due_at IS NULL
        """,
        (list(queues), before),
    ).rowcount


def strand(connection: Connection, address: StepAddress) -> list[StepAddress]:
    """Return step runs whose holder has ended: where a redelivered message goes on."""
    rows = connection.execute(
        """
        SELECT s.execution_id, s.name, s.scope, s.run FROM orchestrator.steps s
          JOIN orchestrator.workers w ON w.id = s.holder
         WHERE s.execution_id = %(execution)s AND s.status = 'running' AND w.ended_at IS NOT NULL
           AND w.id = (SELECT h.holder FROM orchestrator.steps h
                        WHERE h.execution_id = %(execution)s
                          AND h.name = %(name)s AND h.scope = %(scope)s AND h.run = %(run)s)
        """,
        {
            "execution": address.execution_id,
            "name": address.name,
            "scope": address.scope,
            "run": address.run,
        },
    ).fetchall()
    return [StepAddress(*row) for row in rows]


def _columns(rows: Sequence[Sequence[object]]) -> dict[str, list[object]]:
    return {
        "ids": [row[0] for row in rows],
        "names": [row[1] for row in rows],
        "scopes": [row[2] for row in rows],
        "runs": [row[3] for row in rows],
    }
