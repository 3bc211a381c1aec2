-- Schema of the first release. Statuses are the words of orchestrator/lifecycle.py (a test compares them).
-- No foreign keys between these tables: they lock, cost, and forbid dropping partitions (protocol.md 1).

-- PL/pgSQL keeps its plan for the session; an SQL function that reads a volatile clock but may be used with an index
-- (STABLE) is never inlined and would be parsed and planned at every call.
CREATE FUNCTION orchestrator.now() RETURNS timestamptz LANGUAGE plpgsql STABLE PARALLEL SAFE AS $$
BEGIN
    RETURN clock_timestamp()
        + coalesce(nullif(current_setting('orchestrator.clock_offset', true), ''), '0')::interval;
END $$;
COMMENT ON FUNCTION orchestrator.now() IS
    'The database''s clock, moved by the session setting orchestrator.clock_offset (the virtual clock of tests)';

CREATE FUNCTION orchestrator.uuid7() RETURNS uuid LANGUAGE sql VOLATILE PARALLEL SAFE AS $$
    SELECT encode(set_bit(set_bit(overlay(uuid_send(gen_random_uuid())
        PLACING substring(int8send((extract(epoch FROM orchestrator.now()) * 1000)::bigint) FROM 3)
        FROM 1 FOR 6), 52, 1), 53, 1), 'hex')::uuid
$$;
COMMENT ON FUNCTION orchestrator.uuid7() IS 'A UUIDv7 from database time';

CREATE FUNCTION orchestrator.uuid7_at(p_moment timestamptz) RETURNS uuid LANGUAGE sql STABLE PARALLEL SAFE AS $$
    SELECT (encode(substring(int8send((extract(epoch FROM p_moment) * 1000)::bigint) FROM 3), 'hex')
            || '70008000000000000000')::uuid
$$;
COMMENT ON FUNCTION orchestrator.uuid7_at(timestamptz) IS 'The smallest UUIDv7 of a moment: what is older sorts before it';

-- What a row may be. One call per table and not one CHECK per rule: PostgreSQL reads and prepares the text of every
-- CHECK again in every statement that writes the table, which cost record_step a quarter of its time; the plan of
-- a PL/pgSQL function lasts for the session. A rule that changes gets a function with the next number.
CREATE FUNCTION orchestrator.execution_is_lawful_1(
    status text, finished_at timestamptz, started integer, finished integer, failed integer
) RETURNS boolean LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $$
BEGIN
    RETURN 0 <= failed AND failed <= finished AND finished <= started
       AND CASE WHEN status IN ('succeeded', 'failed', 'cancelled') THEN finished_at IS NOT NULL
                WHEN status IN ('running', 'failing', 'cancelling')
                THEN finished_at IS NULL AND (finished < started OR started = 0)
                ELSE false END;
END $$;
COMMENT ON FUNCTION orchestrator.execution_is_lawful_1 IS
    'finished_at if and only if terminal; settled if and only if every counted step has ended';

CREATE FUNCTION orchestrator.step_is_lawful_1(
    status text, holder uuid, lease_until timestamptz, token integer, wanted integer, live integer, ended_no integer
) RETURNS boolean LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $$
BEGIN
    RETURN CASE
        WHEN status IN ('succeeded', 'failed', 'cancelled', 'superseded') THEN ended_no IS NOT NULL
        WHEN ended_no IS NOT NULL THEN false
        WHEN status = 'running' THEN holder IS NOT NULL AND lease_until IS NOT NULL AND token > 0
        WHEN status = 'waiting' THEN wanted IS NOT NULL AND live IS NOT NULL AND live < wanted
        ELSE status = 'ready' END;
END $$;
COMMENT ON FUNCTION orchestrator.step_is_lawful_1 IS
    'a place in the order of ends if and only if ended; running only with holder, lease and token; waiting only below wanted';

CREATE TABLE orchestrator.definitions (
    id             integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name           text NOT NULL,
    version        text NOT NULL,
    fingerprint    text NOT NULL,
    graph          jsonb NOT NULL,
    options        jsonb NOT NULL,
    active         boolean NOT NULL DEFAULT true,
    registered_at  timestamptz NOT NULL DEFAULT orchestrator.now(),
    CONSTRAINT definitions_name_version UNIQUE (name, version)
);

CREATE TABLE orchestrator.keys (
    definition    text NOT NULL,
    key           text NOT NULL,
    execution_id  uuid NOT NULL,
    input_hash    text NOT NULL,
    expires_at    timestamptz,
    CONSTRAINT keys_pkey PRIMARY KEY (definition, key)
);
COMMENT ON COLUMN orchestrator.keys.expires_at IS 'set when the execution is expired; until then the key never ends';
CREATE INDEX keys_expires_at ON orchestrator.keys (expires_at) WHERE expires_at IS NOT NULL;

CREATE TABLE orchestrator.executions (
    id             uuid PRIMARY KEY,
    created_at     timestamptz NOT NULL,
    finished_at    timestamptz,
    definition_id  integer NOT NULL,
    started        integer NOT NULL DEFAULT 0,
    finished       integer NOT NULL DEFAULT 0,
    failed         integer NOT NULL DEFAULT 0,
    position       integer NOT NULL DEFAULT 0,
    reruns         smallint NOT NULL DEFAULT 0,
    paused         boolean NOT NULL DEFAULT false,
    status         text NOT NULL,
    CONSTRAINT executions_lawful CHECK
        (orchestrator.execution_is_lawful_1(status, finished_at, started, finished, failed))
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 20000,
        autovacuum_analyze_scale_factor = 0, autovacuum_analyze_threshold = 20000);
-- Neither column ever changes, so the counters' updates stay HOT.
CREATE INDEX executions_definition ON orchestrator.executions (definition_id, id);

CREATE TABLE orchestrator.execution_state (
    execution_id  uuid PRIMARY KEY,
    key           text,
    input         jsonb NOT NULL
);

CREATE TABLE orchestrator.steps (
    execution_id     uuid NOT NULL,
    attend_at        timestamptz,
    due_at           timestamptz,
    lease_until      timestamptz,
    dispatched_at    timestamptz,
    began_at         timestamptz,
    ended_at         timestamptz,
    nonce            bigint,
    dispatch         integer NOT NULL DEFAULT 0,
    sent             integer NOT NULL DEFAULT 0,
    claimed          integer NOT NULL DEFAULT 0,
    token            integer NOT NULL DEFAULT 0,
    ended_no         integer,
    wanted           integer,
    live             integer,
    items            integer,
    next             integer,
    run              smallint NOT NULL DEFAULT 0,
    attempt          smallint NOT NULL DEFAULT 0,
    deaths           smallint NOT NULL DEFAULT 0,
    counter_updated  boolean NOT NULL DEFAULT true,
    message_sent     boolean GENERATED ALWAYS AS (sent >= dispatch) STORED,
    cancel_asked     boolean NOT NULL DEFAULT false,
    holder           uuid,
    status           text NOT NULL,
    name             text COLLATE "C" NOT NULL,
    scope            text COLLATE "C" NOT NULL DEFAULT '',
    queue            text NOT NULL,
    closed_by        text,
    output           jsonb,
    error            jsonb,
    progress         jsonb,
    CONSTRAINT steps_pkey PRIMARY KEY (execution_id, name, scope, run),
    CONSTRAINT steps_lawful CHECK
        (orchestrator.step_is_lawful_1(status, holder, lease_until, token, wanted, live, ended_no))
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 50000,
        autovacuum_analyze_scale_factor = 0, autovacuum_analyze_threshold = 50000);
COMMENT ON COLUMN orchestrator.steps.attend_at IS
    'when a sweep must look at this row: unsent, due, lost, lease; null = never. The only indexed column that changes';
COMMENT ON COLUMN orchestrator.steps.claimed IS 'dispatch number of the message by which the row was last claimed';
COMMENT ON COLUMN orchestrator.steps.closed_by IS
    'what cut this row off, or, on a row that ended in a closing execution, what kept it from ordering its successors';
CREATE INDEX steps_attend_at ON orchestrator.steps (attend_at) WHERE attend_at IS NOT NULL;

CREATE TABLE orchestrator.payloads (
    execution_id  uuid NOT NULL,
    name          text COLLATE "C" NOT NULL,
    scope         text COLLATE "C" NOT NULL,
    run           smallint NOT NULL,
    part          integer NOT NULL DEFAULT 0,
    kind          text NOT NULL,
    value         jsonb NOT NULL,
    CONSTRAINT payloads_pkey PRIMARY KEY (execution_id, name, scope, run, kind, part),
    CONSTRAINT payloads_kind CHECK (kind IN ('output', 'items'))
);
COMMENT ON TABLE orchestrator.payloads IS
    'outputs above 1 kB (part 0) and the items of a fan-out (100 a part)';

CREATE TABLE orchestrator.journal (
    execution_id  uuid NOT NULL,
    at            timestamptz NOT NULL,
    position      integer NOT NULL,
    kind          text NOT NULL,
    actor         text,
    data          jsonb,
    CONSTRAINT journal_pkey PRIMARY KEY (execution_id, position)
);

CREATE TABLE orchestrator.workers (
    id          uuid PRIMARY KEY,
    parent      uuid,
    host        text NOT NULL,
    pid         integer NOT NULL,
    born_at     double precision NOT NULL,
    started_at  timestamptz NOT NULL,
    beat_at     timestamptz NOT NULL,
    ended_at    timestamptz,
    died        boolean NOT NULL DEFAULT false,
    reason      text,
    queues      text[] NOT NULL,
    functions   text[] NOT NULL,
    claims      jsonb NOT NULL DEFAULT '{}',
    CONSTRAINT workers_died CHECK (NOT died OR ended_at IS NOT NULL)
);
COMMENT ON TABLE orchestrator.workers IS 'incarnations: one row per process start, never a name';
COMMENT ON COLUMN orchestrator.workers.born_at IS 'start time of the operating system''s process, seconds since the epoch';
COMMENT ON COLUMN orchestrator.workers.claims IS
    'per queue the time at which the newest message claimed from it had been dispatched, and when it was claimed';

CREATE TABLE orchestrator.quarantine (
    id            bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at            timestamptz NOT NULL,
    execution_id  uuid,
    name          text,
    scope         text,
    run           smallint,
    reason        text NOT NULL,
    detail        jsonb NOT NULL,
    released_at   timestamptz
);

CREATE TABLE orchestrator.audit (
    id            bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at            timestamptz NOT NULL,
    actor         text NOT NULL,
    act           text NOT NULL,
    execution_id  uuid,
    detail        jsonb NOT NULL
);
CREATE INDEX audit_execution ON orchestrator.audit (execution_id);

-- For flows the rows are the history: an ended step's row is its journal line (protocol.md 8).
CREATE VIEW orchestrator.history AS
    SELECT execution_id, position, at, kind, NULL::text AS name, NULL::text AS scope, NULL::smallint AS run, actor, data
      FROM orchestrator.journal
    UNION ALL
    SELECT execution_id, ended_no, ended_at, 'step ' || status, name, scope, run, NULL,
           jsonb_strip_nulls(jsonb_build_object('attempt', attempt, 'error', error, 'closed_by', closed_by))
      FROM orchestrator.steps WHERE ended_no IS NOT NULL;
