-- What users write beside steps and eaches: conditions, merges, handlers, signals, sleeps, child executions.
-- A row that a commit leaves `ready` with a due time is *parked*: it waits for a moment, a signal or a child.

ALTER TABLE orchestrator.steps
    ADD COLUMN until_at timestamptz, ADD COLUMN child uuid, ADD COLUMN arrived integer, ADD COLUMN total integer,
    ADD COLUMN absorbed_by text;
COMMENT ON COLUMN orchestrator.steps.until_at IS 'of a parked row: when its wait is over, kept over its wakings';
COMMENT ON COLUMN orchestrator.steps.child IS 'of a call: the child execution that it waits for';
COMMENT ON COLUMN orchestrator.steps.arrived IS
    'of a merge: arrivals with and without a value; `live` counts those with one, `total` is how many can come';
COMMENT ON COLUMN orchestrator.steps.absorbed_by IS
    'why the execution does not fail by this row: its handler, the item that its each can do without, a decided merge';

CREATE FUNCTION orchestrator.step_is_lawful_2(
    status text, holder uuid, lease_until timestamptz, token integer, wanted integer, live integer, arrived integer,
    total integer, ended_no integer
) RETURNS boolean LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $$
BEGIN
    RETURN CASE
        WHEN status IN ('succeeded', 'failed', 'cancelled', 'skipped', 'superseded') THEN ended_no IS NOT NULL
        WHEN ended_no IS NOT NULL THEN false
        WHEN status = 'running' THEN holder IS NOT NULL AND lease_until IS NOT NULL AND token > 0
        WHEN status = 'waiting' THEN wanted IS NOT NULL AND live IS NOT NULL AND live < wanted
                                     AND (total IS NULL OR arrived < total)
        ELSE status = 'ready' END;
END $$;
COMMENT ON FUNCTION orchestrator.step_is_lawful_2 IS
    'a place in the order of ends if and only if ended; running only with holder, lease and token; waiting only below wanted';
ALTER TABLE orchestrator.steps DROP CONSTRAINT steps_lawful;
ALTER TABLE orchestrator.steps ADD CONSTRAINT steps_lawful CHECK (orchestrator.step_is_lawful_2(
    status, holder, lease_until, token, wanted, live, arrived, total, ended_no));

ALTER TABLE orchestrator.execution_state
    ADD COLUMN parent_id uuid, ADD COLUMN parent_name text, ADD COLUMN parent_scope text,
    ADD COLUMN parent_run smallint, ADD COLUMN depth smallint NOT NULL DEFAULT 0;
CREATE INDEX execution_state_parent ON orchestrator.execution_state (parent_id) WHERE parent_id IS NOT NULL;

CREATE TABLE orchestrator.events (
    id            bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    execution_id  uuid NOT NULL,
    at            timestamptz NOT NULL DEFAULT orchestrator.now(),
    kind          text NOT NULL,
    name          text NOT NULL DEFAULT '',
    source        uuid,
    dedupe_key    text,
    actor         text,
    data          jsonb,
    taken_at      timestamptz,
    taken_by      text,
    CONSTRAINT events_kind CHECK (kind IN ('signal', 'ended', 'cancel', 'retry')),
    CONSTRAINT events_source CHECK ((kind = 'signal') = (source IS NULL)),
    CONSTRAINT events_dedupe UNIQUE (execution_id, dedupe_key)
);
COMMENT ON TABLE orchestrator.events IS
    'inputs addressed to an execution: signals from outside, ends of children, cancels and retries by a parent';
CREATE INDEX events_open ON orchestrator.events (execution_id, name, id) WHERE taken_at IS NULL;
CREATE INDEX events_between ON orchestrator.events (id) WHERE taken_at IS NULL AND kind <> 'signal';

-- What concerns another execution is a row of `events`, handled later under that execution's own lock (protocol.md 2).
CREATE FUNCTION orchestrator.tell_parent_1(p_execution uuid) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO orchestrator.events (execution_id, kind, source)
        SELECT x.parent_id, 'ended', p_execution FROM orchestrator.execution_state x
         WHERE x.execution_id = p_execution AND x.parent_id IS NOT NULL;
    RETURN FOUND;
END $$;

CREATE OR REPLACE VIEW orchestrator.history AS
    SELECT execution_id, position, at, kind, NULL::text AS name, NULL::text AS scope, NULL::smallint AS run, actor, data
      FROM orchestrator.journal
    UNION ALL
    SELECT execution_id, ended_no, ended_at, 'step ' || status, name, scope, run, NULL,
           jsonb_strip_nulls(jsonb_build_object('attempt', attempt, 'error', error, 'closed_by', closed_by,
                                                'absorbed_by', absorbed_by, 'child', child))
      FROM orchestrator.steps WHERE ended_no IS NOT NULL;

-- Claim: ready and due, or running under a lease that has run out or whose holder is proven dead.
-- The same nonce again gets the same answer. It waits for a locked row: the lock may be that of a mark or of a sweep
-- that wants no new message, and a message whose step was skipped is gone. Asked for one row a call cannot deadlock.
CREATE FUNCTION orchestrator.claim_steps_2(
    p_execution uuid[], p_name text[], p_scope text[], p_run smallint[], p_number integer[],
    p_holder uuid, p_lease interval, p_nonce bigint
) RETURNS TABLE (execution_id uuid, name text, scope text, run smallint, attempt smallint, token integer,
                 deaths smallint, taken_from uuid, wanted integer, live integer, items integer,
                 queue text, dispatched_at timestamptz, definition_id integer, key text, now timestamptz,
                 until_at timestamptz, child uuid)
LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    v_now timestamptz := orchestrator.now();
BEGIN
    RETURN QUERY
    WITH picked AS MATERIALIZED (
        SELECT s.execution_id, s.name, s.scope, s.run, a.number, e.definition_id, x.key,
               (s.nonce = p_nonce AND s.holder = p_holder) IS TRUE AS again,
               CASE WHEN s.status = 'running' THEN s.holder END AS taken_from,
               s.status = 'running' AND EXISTS (
                   SELECT 1 FROM orchestrator.workers w WHERE w.id = s.holder AND w.died) AS died
          FROM unnest(p_execution, p_name, p_scope, p_run, p_number)
               AS a(execution_id, name, scope, run, number)
          JOIN orchestrator.steps s ON (s.execution_id, s.name, s.scope, s.run)
                                     = (a.execution_id, a.name, a.scope, a.run)
          JOIN orchestrator.executions e ON e.id = s.execution_id
          JOIN orchestrator.execution_state x ON x.execution_id = s.execution_id
         WHERE e.status = 'running' AND NOT e.paused
           AND (s.status = 'ready' AND (s.due_at IS NULL OR s.due_at <= v_now)
                OR s.status = 'running' AND (
                    s.lease_until <= v_now
                    OR s.nonce = p_nonce AND s.holder = p_holder
                    OR EXISTS (SELECT 1 FROM orchestrator.workers w
                                WHERE w.id = s.holder AND w.ended_at IS NOT NULL)))
         ORDER BY 1, 2, 3, 4
           FOR NO KEY UPDATE OF s)
    UPDATE orchestrator.steps s
       SET status = 'running', holder = p_holder, nonce = p_nonce, due_at = NULL,
           attempt = least(s.attempt + (NOT p.again)::int, 32767), token = s.token + (NOT p.again)::int,
           deaths = s.deaths + (p.died AND NOT p.again)::int,
           claimed = greatest(s.claimed, p.number), sent = greatest(s.sent, p.number),
           lease_until = v_now + p_lease, attend_at = v_now + p_lease, began_at = v_now
      FROM picked p
     WHERE (s.execution_id, s.name, s.scope, s.run) = (p.execution_id, p.name, p.scope, p.run)
    RETURNING s.execution_id, s.name, s.scope, s.run, s.attempt, s.token, s.deaths,
              CASE WHEN p.again THEN NULL ELSE p.taken_from END, s.wanted, s.live, s.items,
              s.queue, s.dispatched_at, p.definition_id, p.key, v_now, s.until_at, s.child;
END $$;

-- record_step: one success, at most one plain next step, in an execution that is running, not paused and never re-run.
-- Counters first: that is the lock and the check that the execution is open; a stale token then takes them back.
--   'recorded'  done, and the next step inserted as running (p_inline) or ready
--   'settled'   done, and this was the last
--   'settled child'  the same, and the parent is to be told
--   'full'      nothing changed: the full form must decide
--   SQLSTATE OR001: fenced, nothing changed
CREATE FUNCTION orchestrator.record_step_2(
    p_execution uuid, p_name text, p_scope text, p_run smallint, p_token integer, p_nonce bigint, p_holder uuid,
    p_output jsonb, p_large boolean,
    p_next text, p_next_scope text, p_next_queue text, p_inline boolean,
    p_head_name text, p_head_scope text, p_head_run smallint,   -- first row of the inline segment
    p_lease interval, p_unsent_after interval
) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    v_now timestamptz := orchestrator.now();
    v_position integer;
    v_settled boolean;
    v_is_head boolean := (p_name, p_scope, p_run) = (p_head_name, p_head_scope, p_head_run);
    v_ordered integer := (p_next IS NOT NULL)::int;
BEGIN
    UPDATE orchestrator.executions
       SET started = started + v_ordered, finished = finished + 1,
           position = position + 1 + (finished + 1 = started + v_ordered)::int,
           status = CASE WHEN finished + 1 = started + v_ordered THEN 'succeeded' ELSE status END,
           finished_at = CASE WHEN finished + 1 = started + v_ordered THEN v_now END
     WHERE id = p_execution AND status = 'running' AND NOT paused AND reruns = 0
    RETURNING position, finished = started INTO v_position, v_settled;
    IF NOT FOUND THEN RETURN 'full'; END IF;

    UPDATE orchestrator.steps
       SET status = 'succeeded', nonce = p_nonce, error = NULL, sent = dispatch,
           output = CASE WHEN NOT p_large THEN p_output END,
           ended_no = v_position - v_settled::int, ended_at = v_now,
           -- what a sweep looks at keeps an eye on what is gone on with: the head, or who outlived its own lease
           attend_at = CASE WHEN p_inline AND attend_at IS NOT NULL THEN v_now + p_lease END
     WHERE execution_id = p_execution AND name = p_name AND scope = p_scope AND run = p_run
       AND status = 'running' AND token = p_token;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'step % of % is not held with token %', p_name, p_execution, p_token USING ERRCODE = 'OR001';
    END IF;
    IF p_large THEN
        INSERT INTO orchestrator.payloads (execution_id, name, scope, run, kind, value)
            VALUES (p_execution, p_name, p_scope, p_run, 'output', p_output)
            ON CONFLICT ON CONSTRAINT payloads_pkey DO UPDATE SET value = excluded.value;
    END IF;
    IF p_inline THEN
        INSERT INTO orchestrator.steps (execution_id, name, scope, status, queue, nonce, attempt, token,
                                        holder, lease_until, began_at)
            VALUES (p_execution, p_next, p_next_scope, 'running', p_next_queue, p_nonce, 1, 1,
                    p_holder, v_now + p_lease, v_now);
    ELSIF p_next IS NOT NULL THEN
        INSERT INTO orchestrator.steps (execution_id, name, scope, status, queue, nonce,
                                        dispatch, dispatched_at, attend_at)
            VALUES (p_execution, p_next, p_next_scope, 'ready', p_next_queue, p_nonce,
                    1, v_now, v_now + p_unsent_after);
    END IF;
    IF NOT v_is_head AND NOT p_inline THEN
        UPDATE orchestrator.steps SET attend_at = NULL
         WHERE execution_id = p_execution AND name = p_head_name AND scope = p_head_scope AND run = p_head_run
           AND status NOT IN ('ready', 'running');
    END IF;
    IF v_settled THEN
        INSERT INTO orchestrator.journal (execution_id, position, at, kind)
            VALUES (p_execution, v_position, v_now, 'succeeded');
        RETURN CASE WHEN orchestrator.tell_parent_1(p_execution) THEN 'settled child' ELSE 'settled' END;
    END IF;
    RETURN 'recorded';
END $$;

-- record_steps: outcomes of one execution with everything that follows from them, one commit.
-- It is the write half of both forms. Fast: called alone with what the kernel planned statically. Full: called in
-- the transaction that locked the execution and read what the plan needed. p_status, p_paused and p_reruns say
-- for which state the plan was made; if the locked row says otherwise nothing changes and the answer is 'full'.
--
--   p_outcomes  [{name, scope, run, token, status, output, large, error, due_in, items, next, wanted, live,
--                 closed_by, absorbed_by, parked, due, child}]
--               status: succeeded | skipped | failed | cancelled | waiting (an expanded each)
--                       | ready (a retry, due_in seconds; or parked until due, without it for ever: no attempt)
--   p_orders    [{cause, name, scope, run, wanted, arrivals, queue, total, live}]   cause = index of the outcome it
--               follows from; a merge says how many arrivals are possible and how many of these come with a value
--   p_arrivals  [{cause, name, scope, run, arrivals, per_item, firsts: [{name, queue}]}]   at rows of an `each`
--   p_payloads  [{name, scope, run, kind, part, value}]
--   p_inline    the order, or each row, that the recorder goes on with if this commit makes it ready:
--               {name, scope}; {"item_of": name, "scope"} = the first item ordered by that each's cursor
--   p_losers    [{name, scope, gated} | {name, below}]  what a decided merge needs no more: a row, or the rows of this
--               name in all scopes that begin so; one that has conditions and has not begun is left to find out for
--               itself that it is skipped
--   p_lines     journal lines [{kind, actor, data}]
--   p_close     NULL | 'failing' | 'cancelling': ends what is not running, asks the running to stop
-- Answer rows: kind 'recorded' | 'settled' | 'full' | 'fenced' first, then one row per step run that became ready
-- ('ready': send its message) or was taken inline ('inline'), and one 'events' if it posted to other executions.
CREATE FUNCTION orchestrator.record_steps_2(
    p_execution uuid, p_status text, p_paused boolean, p_reruns smallint, p_nonce bigint, p_holder uuid,
    p_outcomes jsonb, p_orders jsonb, p_arrivals jsonb, p_payloads jsonb, p_inline jsonb, p_losers jsonb,
    p_lines jsonb,
    p_close text, p_cause text, p_head_name text, p_head_scope text, p_head_run smallint,
    p_lease interval, p_unsent_after interval
) RETURNS SETOF orchestrator.ordered_1 LANGUAGE plpgsql AS $$
DECLARE
    v_now timestamptz := orchestrator.now();
    v_execution orchestrator.executions%ROWTYPE;
    v_accepted integer[];
    v_ended integer := 0;
    v_numbers integer := 0;     -- places taken in the order of ends; more than ended where an outcome was refused
    v_failed integer := 0;
    v_started integer := 0;
    v_count integer;
    v_outcome record;
    v_each record;
    v_loser record;
    v_told boolean;
    v_first integer;
    v_stop integer;
    v_orders orchestrator.ordered_1[];
    v_items orchestrator.ordered_1[];
    v_lines integer := jsonb_array_length(p_lines);
    v_inline_name text := p_inline->>'name';
    v_inline_scope text := p_inline->>'scope';
    v_item_of text := p_inline->>'item_of';
    v_status text;
    v_kind text := 'recorded';
    v_dispatches integer := (NOT p_paused)::int;
    v_posted boolean := false;
BEGIN
    SELECT * INTO v_execution FROM orchestrator.executions e WHERE e.id = p_execution FOR NO KEY UPDATE;
    IF NOT FOUND OR (v_execution.status, v_execution.paused, v_execution.reruns)
                    IS DISTINCT FROM (p_status, p_paused, p_reruns) THEN
        RETURN NEXT ('full', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL)::orchestrator.ordered_1;
        RETURN;
    END IF;

    -- guard: the only statement with a condition of its own; everything else follows what it accepted. One row by its
    -- whole key at a time: joined with the array the planner may read every row of the execution instead.
    FOR v_outcome IN
        SELECT o.*, o.ordinality::int AS place, o.status IN ('succeeded', 'skipped', 'failed', 'cancelled') AS ends
          FROM ROWS FROM (jsonb_to_recordset(p_outcomes) AS (name text, scope text, run smallint, token integer,
                    status text, output jsonb, large boolean, error jsonb, due_in double precision, items integer,
                    next integer, wanted integer, live integer, closed_by text, absorbed_by text, parked boolean,
                    due timestamptz, child uuid))
               WITH ORDINALITY AS o(name, scope, run, token, status, output, large, error, due_in, items, next,
                    wanted, live, closed_by, absorbed_by, parked, due, child, ordinality)
         ORDER BY o.name, o.scope, o.run
    LOOP
        UPDATE orchestrator.steps s
           SET status = v_outcome.status, nonce = p_nonce,
               -- a message of a step that has ended is not wanted any more, so none is missing
               sent = CASE WHEN v_outcome.ends THEN s.dispatch ELSE s.sent END,
               output = CASE WHEN v_outcome.status = 'succeeded' AND v_outcome.large IS NOT TRUE
                             THEN v_outcome.output END,
               error = v_outcome.error, closed_by = v_outcome.closed_by, absorbed_by = v_outcome.absorbed_by,
               due_at = CASE WHEN v_outcome.parked THEN coalesce(v_outcome.due, '9999-01-01')
                             ELSE v_now + make_interval(secs => v_outcome.due_in) END,
               until_at = CASE WHEN v_outcome.parked THEN coalesce(v_outcome.due, '9999-01-01') ELSE s.until_at END,
               child = coalesce(v_outcome.child, s.child),
               attempt = s.attempt - (v_outcome.parked IS TRUE)::int,
               attend_at = CASE WHEN v_outcome.parked
                                THEN CASE WHEN NOT p_paused THEN v_outcome.due END
                                WHEN v_outcome.status = 'ready' AND NOT p_paused
                                THEN v_now + make_interval(secs => v_outcome.due_in)
                                -- it keeps an eye on what is gone on with, as in record_step
                                WHEN p_inline IS NOT NULL AND s.attend_at IS NOT NULL THEN v_now + p_lease END,
               ended_no = CASE WHEN v_outcome.ends THEN v_execution.position + v_outcome.place END,
               ended_at = CASE WHEN v_outcome.ends THEN v_now END,
               items = coalesce(v_outcome.items, s.items), next = coalesce(v_outcome.next, s.next),
               wanted = coalesce(v_outcome.wanted, s.wanted), live = coalesce(v_outcome.live, s.live)
         WHERE s.execution_id = p_execution AND s.name = v_outcome.name AND s.scope = v_outcome.scope
           AND s.run = v_outcome.run AND s.status = 'running' AND s.token = v_outcome.token;
        CONTINUE WHEN NOT FOUND;
        v_accepted := v_accepted || (v_outcome.place - 1);
        IF v_outcome.ends THEN
            v_ended := v_ended + 1;
            v_failed := v_failed + (v_outcome.status = 'failed')::int;
            v_numbers := greatest(v_numbers, v_outcome.place);
        END IF;
    END LOOP;
    IF v_accepted IS NULL AND jsonb_array_length(p_outcomes) > 0 THEN
        RETURN NEXT ('fenced', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL)::orchestrator.ordered_1;
        RETURN;
    END IF;

    -- what a call does not bring is not executed: to set up a statement costs more than a row (hotpath.md 3)
    IF jsonb_array_length(p_payloads) > 0 THEN
        INSERT INTO orchestrator.payloads (execution_id, name, scope, run, kind, part, value)
            SELECT p_execution, p.name, p.scope, p.run, p.kind, p.part, p.value
              FROM jsonb_to_recordset(p_payloads)
                AS p(name text, scope text, run smallint, kind text, part integer, value jsonb)
            ON CONFLICT ON CONSTRAINT payloads_pkey DO UPDATE SET value = excluded.value;
    END IF;

    -- orders: arrivals at one join are summed first, because a statement changes a row at most once
    IF jsonb_array_length(p_orders) > 0 THEN
        WITH ordered AS (
            SELECT o.name, o.scope, o.run, max(o.queue) AS queue, max(o.wanted) AS wanted,
                   sum(o.arrivals)::int AS arrivals, nullif(max(o.total), 0) AS total,
                   sum(o.arrivals) FILTER (WHERE o.live IS DISTINCT FROM false)::int AS values
              FROM jsonb_to_recordset(p_orders)
                AS o(cause integer, name text, scope text, run smallint, wanted integer, arrivals integer, queue text,
                     total integer, live boolean)
             WHERE o.cause IS NULL OR o.cause = ANY (v_accepted)
             GROUP BY o.name, o.scope, o.run ORDER BY 1, 2, 3),
        tallied AS (
            SELECT o.*, CASE WHEN o.total IS NULL THEN o.arrivals ELSE coalesce(o.values, 0) END AS live,
                   CASE WHEN o.total IS NOT NULL THEN o.arrivals END AS arrived,
                   (o.name = v_inline_name AND o.scope = v_inline_scope) IS TRUE AS wish
              FROM ordered o),
        proposed AS (
            SELECT t.*, t.live < t.wanted AND CASE WHEN t.total IS NULL THEN t.wanted > 1 ELSE t.arrived < t.total END
                        AS waits
              FROM tallied t),
        written AS (
            INSERT INTO orchestrator.steps AS s (execution_id, name, scope, run, status, queue, nonce, wanted, live,
                    arrived, total,
                    attempt, token, holder, lease_until, began_at, dispatch, dispatched_at, attend_at)
                SELECT p_execution, p.name, p.scope, p.run,
                       CASE WHEN p.waits THEN 'waiting' WHEN p.wish THEN 'running' ELSE 'ready' END,
                       p.queue, p_nonce,
                       CASE WHEN p.wanted > 1 OR p.total IS NOT NULL THEN p.wanted END,
                       CASE WHEN p.wanted > 1 OR p.total IS NOT NULL THEN p.live END, p.arrived, p.total,
                       (p.wish AND NOT p.waits)::int, (p.wish AND NOT p.waits)::int,
                       CASE WHEN p.wish AND NOT p.waits THEN p_holder END,
                       CASE WHEN p.wish AND NOT p.waits THEN v_now + p_lease END,
                       CASE WHEN p.wish AND NOT p.waits THEN v_now END,
                       CASE WHEN p.wish OR p.waits THEN 0 ELSE v_dispatches END,
                       CASE WHEN NOT (p.wish OR p.waits OR p_paused) THEN v_now END,
                       CASE WHEN NOT (p.wish OR p.waits OR p_paused) THEN v_now + p_unsent_after END
                  FROM proposed p
                ON CONFLICT ON CONSTRAINT steps_pkey DO UPDATE
                   SET (live, arrived, nonce, status, attempt, token, holder, lease_until, began_at, dispatch,
                        dispatched_at, attend_at) = (
                       SELECT a.live, a.arrived, p_nonce,
                              CASE WHEN NOT a.fires THEN 'waiting' WHEN a.wish THEN 'running' ELSE 'ready' END,
                              s.attempt + (a.fires AND a.wish)::int, s.token + (a.fires AND a.wish)::int,
                              CASE WHEN a.fires AND a.wish THEN p_holder END,
                              CASE WHEN a.fires AND a.wish THEN v_now + p_lease END,
                              CASE WHEN a.fires AND a.wish THEN v_now END,
                              s.dispatch + CASE WHEN a.fires AND NOT a.wish THEN v_dispatches ELSE 0 END,
                              CASE WHEN a.fires AND NOT a.wish AND NOT p_paused THEN v_now END,
                              CASE WHEN a.fires AND NOT a.wish AND NOT p_paused THEN v_now + p_unsent_after END
                         FROM (SELECT s.live + excluded.live AS live, s.arrived + excluded.arrived AS arrived,
                                      s.live + excluded.live >= s.wanted
                                          OR coalesce(s.arrived + excluded.arrived >= s.total, false) AS fires,
                                      (s.name = v_inline_name AND s.scope = v_inline_scope) IS TRUE AS wish) a)
                 WHERE s.status = 'waiting'
            RETURNING s.*, s.xmax = 0 AS inserted)
        SELECT count(*) FILTER (WHERE w.inserted),
               array_agg((CASE w.status WHEN 'running' THEN 'inline' ELSE 'ready' END, w.name, w.scope, w.run, w.dispatch,
                          w.token, w.attempt, w.queue, w.wanted, w.live, w.items)::orchestrator.ordered_1
                         ORDER BY w.name, w.scope)
                   FILTER (WHERE w.status = 'running' OR w.status = 'ready' AND w.dispatch > w.sent)
          INTO v_started, v_orders FROM written w;
    END IF;

    -- arrivals at an each, summed: its tally and its cursor move in one UPDATE; the items that now have room are
    -- ordered. A call seldom brings arrivals for more than one each.
    IF jsonb_array_length(p_arrivals) > 0 THEN
        FOR v_each IN
            SELECT a.name, a.scope, a.run, sum(a.arrivals)::int AS arrivals, max(a.per_item) AS per_item,
                   (array_agg(a.firsts))[1] AS firsts
              FROM jsonb_to_recordset(p_arrivals) AS a(cause integer, name text, scope text, run smallint,
                    arrivals integer, per_item integer, firsts jsonb)
             WHERE a.cause IS NULL OR a.cause = ANY (v_accepted)
             GROUP BY a.name, a.scope, a.run ORDER BY 1, 2, 3
        LOOP
            UPDATE orchestrator.steps s
               SET (live, next, nonce, status, attempt, token, holder, lease_until, began_at, dispatch, dispatched_at,
                    attend_at) = (
                   SELECT n.live, s.next + n.room, p_nonce,
                          CASE WHEN NOT n.fires THEN 'waiting' WHEN n.wish THEN 'running' ELSE 'ready' END,
                          s.attempt + (n.fires AND n.wish)::int, s.token + (n.fires AND n.wish)::int,
                          CASE WHEN n.fires AND n.wish THEN p_holder ELSE s.holder END,
                          CASE WHEN n.fires AND n.wish THEN v_now + p_lease ELSE s.lease_until END,
                          s.began_at,
                          s.dispatch + CASE WHEN n.fires AND NOT n.wish THEN v_dispatches ELSE 0 END,
                          CASE WHEN n.fires AND NOT n.wish AND NOT p_paused THEN v_now ELSE s.dispatched_at END,
                          CASE WHEN n.fires AND NOT n.wish AND NOT p_paused THEN v_now + p_unsent_after
                               ELSE s.attend_at END
                     FROM (SELECT s.live + v_each.arrivals AS live, s.live + v_each.arrivals >= s.wanted AS fires,
                                  (s.live + v_each.arrivals) / v_each.per_item - s.live / v_each.per_item AS room,
                                  (s.name = v_inline_name AND s.scope = v_inline_scope) IS TRUE AS wish) n)
             WHERE s.execution_id = p_execution AND s.name = v_each.name AND s.scope = v_each.scope
               AND s.run = v_each.run AND s.status = 'waiting'
            RETURNING s.next - (s.live / v_each.per_item - (s.live - v_each.arrivals) / v_each.per_item),
                      least(s.next, s.items),
                      CASE WHEN s.status = 'running' OR s.status = 'ready' AND s.dispatch > s.sent THEN
                          ARRAY[(CASE s.status WHEN 'running' THEN 'inline' ELSE 'ready' END, s.name, s.scope, s.run,
                                 s.dispatch, s.token, s.attempt, s.queue, s.wanted, s.live,
                                 s.items)::orchestrator.ordered_1] END
              INTO v_first, v_stop, v_items;
            CONTINUE WHEN NOT FOUND;
            v_orders := v_orders || v_items;
            CONTINUE WHEN v_first >= v_stop;
            WITH item AS (
                SELECT f.name, f.queue, ltrim(v_each.scope || '/' || v_each.name || '[' || i || ']', '/') AS scope,
                       (v_each.name = v_item_of AND v_each.scope = v_inline_scope AND i = v_first
                        AND f.ordinality = 1) IS TRUE AS wish
                  FROM generate_series(v_first, v_stop - 1) AS i
                 CROSS JOIN ROWS FROM (jsonb_to_recordset(v_each.firsts) AS (name text, queue text))
                            WITH ORDINALITY AS f(name, queue, ordinality)),
            written AS (
                INSERT INTO orchestrator.steps AS s (execution_id, name, scope, run, status, queue, nonce, attempt,
                        token, holder, lease_until, began_at, dispatch, dispatched_at, attend_at)
                    SELECT p_execution, t.name, t.scope, p_reruns,
                           CASE WHEN t.wish THEN 'running' ELSE 'ready' END, t.queue, p_nonce,
                           t.wish::int, t.wish::int,
                           CASE WHEN t.wish THEN p_holder END, CASE WHEN t.wish THEN v_now + p_lease END,
                           CASE WHEN t.wish THEN v_now END,
                           CASE WHEN t.wish THEN 0 ELSE v_dispatches END,
                           CASE WHEN NOT (t.wish OR p_paused) THEN v_now END,
                           CASE WHEN NOT (t.wish OR p_paused) THEN v_now + p_unsent_after END
                      FROM item t
                RETURNING s.*)
            SELECT count(*),
                   array_agg((CASE w.status WHEN 'running' THEN 'inline' ELSE 'ready' END, w.name, w.scope, w.run,
                              w.dispatch, w.token, w.attempt, w.queue, w.wanted, w.live,
                              w.items)::orchestrator.ordered_1)
                       FILTER (WHERE w.status = 'running' OR w.dispatch > w.sent)
              INTO v_count, v_items FROM written w;
            v_started := v_started + v_count;
            v_orders := v_orders || v_items;
        END LOOP;
    END IF;

    -- losers: what is not running ends now, what runs is asked to stop and is counted at its end. One range of the
    -- key at a time, as in the guard.
    IF jsonb_array_length(p_losers) > 0 THEN
        FOR v_loser IN
            SELECT l.name, coalesce(l.below, l.scope) AS low, coalesce(l.below || '~', l.scope) AS high, l.gated
              FROM jsonb_to_recordset(p_losers) AS l(name text, scope text, below text, gated boolean) ORDER BY 1, 2
        LOOP
            WITH closed AS (
                UPDATE orchestrator.steps s
                   SET status = CASE WHEN s.status = 'running' THEN s.status ELSE 'cancelled' END, absorbed_by = p_cause,
                       cancel_asked = s.status = 'running', due_at = NULL,
                       -- what another runs must not look as if this commit had begun it
                       nonce = CASE WHEN s.status = 'running' THEN s.nonce ELSE p_nonce END,
                       attend_at = CASE WHEN s.status = 'running' THEN coalesce(s.attend_at, s.lease_until) END,
                       sent = CASE WHEN s.status = 'running' THEN s.sent ELSE s.dispatch END,
                       ended_no = CASE WHEN s.status <> 'running' THEN v_execution.position + v_numbers + 1 END,
                       ended_at = CASE WHEN s.status <> 'running' THEN v_now END
                 WHERE s.execution_id = p_execution AND s.name = v_loser.name
                   AND s.scope >= v_loser.low AND s.scope <= v_loser.high
                   AND s.status IN ('waiting', 'ready', 'running')
                   AND (v_loser.gated AND s.status = 'ready' AND s.token = 0) IS NOT TRUE
                RETURNING s.status, s.child),
            told AS (
                INSERT INTO orchestrator.events (execution_id, kind, source, actor)
                    SELECT c.child, 'cancel', p_execution, p_cause FROM closed c WHERE c.child IS NOT NULL
                RETURNING 1)
            SELECT count(*) FILTER (WHERE c.status = 'cancelled'), EXISTS (SELECT 1 FROM told)
              INTO v_count, v_told FROM closed c;
            v_posted := v_posted OR v_told;
            v_ended := v_ended + v_count;
            v_numbers := v_numbers + v_count;
        END LOOP;
    END IF;

    -- closing: entering it ends every row that is not running and asks the running ones to stop
    IF p_close IS NOT NULL THEN
        -- claims and renewals of several rows take them in this order too, without the execution's lock
        PERFORM 1 FROM orchestrator.steps s
          WHERE s.execution_id = p_execution AND s.status IN ('waiting', 'ready', 'running')
          ORDER BY s.name, s.scope, s.run FOR NO KEY UPDATE;
        WITH closed AS (
            UPDATE orchestrator.steps s
               SET status = 'cancelled', closed_by = p_cause, nonce = p_nonce, attend_at = NULL, due_at = NULL,
                   sent = s.dispatch,
                   ended_no = v_execution.position + v_numbers + 1, ended_at = v_now
             WHERE s.execution_id = p_execution AND s.status IN ('waiting', 'ready')
            RETURNING s.child),
        told AS (
            INSERT INTO orchestrator.events (execution_id, kind, source, actor)
                SELECT c.child, 'cancel', p_execution, p_cause FROM closed c WHERE c.child IS NOT NULL
            RETURNING 1)
        SELECT count(*), v_posted OR EXISTS (SELECT 1 FROM told) INTO v_count, v_posted FROM closed c;
        v_ended := v_ended + v_count;
        v_numbers := v_numbers + v_count;
        -- the head that kept an eye on a running row may be among the closed
        WITH asked AS (
            UPDATE orchestrator.steps s SET cancel_asked = true, attend_at = coalesce(s.attend_at, s.lease_until)
             WHERE s.execution_id = p_execution AND s.status = 'running'
            RETURNING s.child),
        told AS (
            INSERT INTO orchestrator.events (execution_id, kind, source, actor)
                SELECT a.child, 'cancel', p_execution, p_cause FROM asked a WHERE a.child IS NOT NULL
            RETURNING 1)
        SELECT v_posted OR EXISTS (SELECT 1 FROM told) INTO v_posted;
    END IF;

    v_status := coalesce(p_close, v_execution.status);
    UPDATE orchestrator.executions e
       SET started = e.started + v_started, finished = e.finished + v_ended, failed = e.failed + v_failed,
           position = e.position + v_numbers + v_lines + (e.finished + v_ended = e.started + v_started)::int,
           status = CASE WHEN e.finished + v_ended < e.started + v_started THEN v_status
                         WHEN v_status = 'running' THEN 'succeeded'
                         WHEN v_status = 'failing' THEN 'failed'
                         WHEN v_status = 'cancelling' THEN 'cancelled' END,
           finished_at = CASE WHEN e.finished + v_ended = e.started + v_started THEN v_now END
     WHERE e.id = p_execution
    RETURNING * INTO v_execution;
    IF v_lines > 0 THEN
        INSERT INTO orchestrator.journal (execution_id, position, at, kind, actor, data)
            SELECT p_execution, v_execution.position - v_lines - (v_execution.finished = v_execution.started)::int
                   + l.ordinality, v_now, l.doc->>'kind', l.doc->>'actor', l.doc->'data'
              FROM jsonb_array_elements(p_lines) WITH ORDINALITY AS l(doc, ordinality);
    END IF;
    IF v_execution.finished = v_execution.started THEN
        v_kind := 'settled';
        INSERT INTO orchestrator.journal (execution_id, position, at, kind)
            VALUES (p_execution, v_execution.position, v_now, v_execution.status);
        v_posted := orchestrator.tell_parent_1(p_execution) OR v_posted;
    END IF;

    -- a segment that ends here needs no eye on its head any more
    IF p_head_name IS NOT NULL AND NOT EXISTS (SELECT 1 FROM unnest(v_orders) o WHERE o.kind = 'inline') THEN
        UPDATE orchestrator.steps s SET attend_at = NULL
         WHERE s.execution_id = p_execution AND s.name = p_head_name AND s.scope = p_head_scope
           AND s.run = p_head_run AND s.status NOT IN ('ready', 'running') AND s.attend_at IS NOT NULL;
    END IF;
    RETURN NEXT (v_kind, CASE WHEN v_kind = 'settled' THEN v_execution.status END,
                 NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL)::orchestrator.ordered_1;
    IF v_posted THEN
        RETURN NEXT ('events', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL)::orchestrator.ordered_1;
    END IF;
    RETURN QUERY SELECT o.* FROM unnest(v_orders) o;
END $$;
