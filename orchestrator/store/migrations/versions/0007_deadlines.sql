-- Deadlines: an execution that has not ended by then fails. An execution's deadline is an event from itself to itself
-- that becomes due later, written by its start; one without a deadline has none, and pays nothing.

ALTER TABLE orchestrator.events ADD COLUMN due_at timestamptz NOT NULL DEFAULT orchestrator.now();
COMMENT ON COLUMN orchestrator.events.due_at IS 'handled from then on, in this order; of a deadline the moment itself';
ALTER TABLE orchestrator.events DROP CONSTRAINT events_kind;
ALTER TABLE orchestrator.events
    ADD CONSTRAINT events_kind CHECK (kind IN ('signal', 'ended', 'cancel', 'retry', 'deadline'));
COMMENT ON TABLE orchestrator.events IS
    'inputs addressed to an execution: signals from outside, ends of children, cancels and retries by a parent, its deadline';
DROP INDEX orchestrator.events_between;
CREATE INDEX events_between ON orchestrator.events (due_at, id) WHERE taken_at IS NULL AND kind <> 'signal';
COMMENT ON COLUMN orchestrator.steps.until_at IS
    'when the wait of a parked row is over; of a step with a deadline, until when its attempts may begin; kept over all';

-- Start, as start_execution_1 of migration 0002, with a deadline.
CREATE FUNCTION orchestrator.start_execution_2(
    p_id uuid, p_definition text, p_definition_id integer, p_key text, p_input jsonb, p_input_hash text,
    p_orders jsonb,             -- [{name, scope, queue, deadline}]: plain steps, all ready at once; deadline
                                -- (seconds) only in the first, of the whole execution
    p_unsent_after interval, p_actor text
) RETURNS TABLE (execution_id uuid, created boolean, input_hash text, expired boolean)
LANGUAGE plpgsql AS $$
DECLARE
    v_now timestamptz := orchestrator.now();
BEGIN
    WHILE p_key IS NOT NULL LOOP
        INSERT INTO orchestrator.keys (definition, key, execution_id, input_hash)
            VALUES (p_definition, p_key, p_id, p_input_hash)
            ON CONFLICT ON CONSTRAINT keys_pkey DO NOTHING;
        EXIT WHEN FOUND;
        RETURN QUERY SELECT k.execution_id, k.execution_id = p_id, k.input_hash, k.expires_at IS NOT NULL
            FROM orchestrator.keys k WHERE k.definition = p_definition AND k.key = p_key;
        IF FOUND THEN RETURN; END IF;
        -- a tombstone that was deleted in between: the key is free
    END LOOP;
    INSERT INTO orchestrator.executions (id, created_at, definition_id, started, position, status)
        VALUES (p_id, v_now, p_definition_id, jsonb_array_length(p_orders), 1, 'running')
        ON CONFLICT ON CONSTRAINT executions_pkey DO NOTHING;
    IF NOT FOUND THEN
        RETURN QUERY SELECT p_id, true, p_input_hash, false;
        RETURN;
    END IF;
    INSERT INTO orchestrator.steps (execution_id, name, scope, status, queue, dispatch, dispatched_at, attend_at)
        SELECT p_id, o.name, o.scope, 'ready', o.queue, 1, v_now, v_now + p_unsent_after
          FROM jsonb_to_recordset(p_orders) AS o(name text, scope text, queue text);
    INSERT INTO orchestrator.execution_state (execution_id, key, input) VALUES (p_id, p_key, p_input);
    INSERT INTO orchestrator.journal (execution_id, position, at, kind, actor)
        VALUES (p_id, 1, v_now, 'started', p_actor);
    IF p_orders->0 ? 'deadline' THEN
        INSERT INTO orchestrator.events (execution_id, kind, source, at, due_at)
            VALUES (p_id, 'deadline', p_id, v_now,
                    v_now + make_interval(secs => (p_orders->0->>'deadline')::double precision));
    END IF;
    RETURN QUERY SELECT p_id, true, p_input_hash, false;
END $$;

-- Start of many, as start_executions_1 of migration 0005, with a deadline.
CREATE FUNCTION orchestrator.start_executions_2(
    p_definition text, p_definition_id integer,
    p_starts jsonb,               -- [{id, key, hash, input}], no key twice
    p_orders jsonb,               -- [{name, scope, queue, deadline}] of each, as start_execution_2 takes them
    p_attend_after double precision,  -- seconds until a sweep sends what was not confirmed; 0: at once
    p_actor text,
    p_notify boolean              -- wake the pumps with the commit
) RETURNS TABLE (id uuid, execution_id uuid, input_hash text, expired boolean)
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    v_now timestamptz := orchestrator.now();
    v_keyed integer;
    v_taken integer;
    v_free integer;
    v_held uuid[] := '{}';
    v_refused boolean := false;
BEGIN
    SELECT count(w.key) INTO v_keyed FROM jsonb_to_recordset(p_starts) AS w(key text);
    WHILE v_keyed > 0 LOOP
        INSERT INTO orchestrator.keys (definition, key, execution_id, input_hash)
            SELECT p_definition, w.key, w.id, w.hash
              FROM jsonb_to_recordset(p_starts) AS w(id uuid, key text, hash text)
             WHERE w.key IS NOT NULL ORDER BY w.key
            ON CONFLICT ON CONSTRAINT keys_pkey DO NOTHING;
        GET DIAGNOSTICS v_taken = ROW_COUNT;
        EXIT WHEN v_taken = v_keyed;
        SELECT coalesce(array_agg(w.id) FILTER (WHERE k.execution_id <> w.id), '{}'),
               count(*) FILTER (WHERE k.execution_id IS NULL),
               coalesce(bool_or(k.execution_id <> w.id AND (k.input_hash <> w.hash OR k.expires_at IS NOT NULL)), false)
          INTO v_held, v_free, v_refused
          FROM jsonb_to_recordset(p_starts) AS w(id uuid, key text, hash text)
          LEFT JOIN orchestrator.keys k ON k.definition = p_definition AND k.key = w.key
         WHERE w.key IS NOT NULL;
        EXIT WHEN v_free = 0;
        -- a tombstone that was deleted in between: its key is free
    END LOOP;

    IF v_refused THEN
        DELETE FROM orchestrator.keys k
         USING jsonb_to_recordset(p_starts) AS w(id uuid, key text)
         WHERE k.definition = p_definition AND k.key = w.key AND k.execution_id = w.id
           AND NOT EXISTS (SELECT 1 FROM orchestrator.executions e WHERE e.id = w.id);
    END IF;
    INSERT INTO orchestrator.executions (id, created_at, definition_id, started, position, status)
        SELECT w.id, v_now, p_definition_id, jsonb_array_length(p_orders), 1, 'running'
          FROM jsonb_to_recordset(p_starts) AS w(id uuid)
         WHERE w.id <> ALL (v_held) AND NOT v_refused
        ON CONFLICT ON CONSTRAINT executions_pkey DO NOTHING;
    IF FOUND THEN
        INSERT INTO orchestrator.steps (execution_id, name, scope, status, queue, dispatch, dispatched_at, attend_at)
            SELECT w.id, o.name, o.scope, 'ready', o.queue, 1, v_now, v_now + make_interval(secs => p_attend_after)
              FROM jsonb_to_recordset(p_starts) AS w(id uuid),
                   jsonb_to_recordset(p_orders) AS o(name text, scope text, queue text)
             WHERE w.id <> ALL (v_held);
        INSERT INTO orchestrator.execution_state (execution_id, key, input)
            SELECT w.id, w.key, w.input
              FROM jsonb_to_recordset(p_starts) AS w(id uuid, key text, input jsonb)
             WHERE w.id <> ALL (v_held);
        INSERT INTO orchestrator.journal (execution_id, position, at, kind, actor)
            SELECT w.id, 1, v_now, 'started', p_actor
              FROM jsonb_to_recordset(p_starts) AS w(id uuid)
             WHERE w.id <> ALL (v_held);
        IF p_orders->0 ? 'deadline' THEN
            INSERT INTO orchestrator.events (execution_id, kind, source, at, due_at)
                SELECT w.id, 'deadline', w.id, v_now,
                       v_now + make_interval(secs => (p_orders->0->>'deadline')::double precision)
                  FROM jsonb_to_recordset(p_starts) AS w(id uuid)
                 WHERE w.id <> ALL (v_held);
        END IF;
        IF p_notify THEN
            PERFORM pg_notify('orchestrator_ready', '');
        END IF;
    END IF;

    IF v_held <> '{}' THEN
        RETURN QUERY SELECT w.id, k.execution_id, k.input_hash, k.expires_at IS NOT NULL
            FROM jsonb_to_recordset(p_starts) AS w(id uuid, key text)
            JOIN orchestrator.keys k ON k.definition = p_definition AND k.key = w.key
           WHERE w.id = ANY (v_held);
    END IF;
END $$;
COMMENT ON FUNCTION orchestrator.start_executions_2 IS
    'Starts executions of one flow; returns only those whose key another execution holds';
