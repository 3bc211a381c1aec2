-- A message that comes while its step run is held is acknowledged and gone. So nobody may count on one that was wanted
-- before the claim, also if the claim was made by an older one: once nobody holds the row any more, a sweep sends anew.

COMMENT ON COLUMN orchestrator.steps.claimed IS
    'messages up to this number are used up: wanted before the row was last claimed, or its lease last renewed';

-- Claim, as claim_steps_2 of migration 0003, but all messages wanted so far are used up.
CREATE FUNCTION orchestrator.claim_steps_3(
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
           claimed = greatest(s.claimed, s.dispatch, p.number), sent = greatest(s.sent, p.number),
           lease_until = v_now + p_lease, attend_at = v_now + p_lease, began_at = v_now
      FROM picked p
     WHERE (s.execution_id, s.name, s.scope, s.run) = (p.execution_id, p.name, p.scope, p.run)
    RETURNING s.execution_id, s.name, s.scope, s.run, s.attempt, s.token, s.deaths,
              CASE WHEN p.again THEN NULL ELSE p.taken_from END, s.wanted, s.live, s.items,
              s.queue, s.dispatched_at, p.definition_id, p.key, v_now, s.until_at, s.child;
END $$;
