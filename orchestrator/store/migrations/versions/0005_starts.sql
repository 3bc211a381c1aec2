-- Start of many executions of one flow, one statement, all or nothing: for bulk starts on our own connections, and for
-- starts inside a transaction of the caller's, whose settings it neither relies on nor changes.

-- Who holds a key that this call does not get is answered; every other start is made, unless one of the keys belongs to
-- another input or to an execution that has expired: then nothing is. The same ids again get the same answer, as the
-- first commit made all of them or none. Keys are taken in their order, so that two calls cannot deadlock.
CREATE FUNCTION orchestrator.start_executions_1(
    p_definition text, p_definition_id integer,
    p_starts jsonb,               -- [{id, key, hash, input}], no key twice
    p_orders jsonb,               -- [{name, scope, queue}] of each: plain steps, all ready at once
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
COMMENT ON FUNCTION orchestrator.start_executions_1 IS
    'Starts executions of one flow; returns only those whose key another execution holds';
