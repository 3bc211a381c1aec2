-- Messages of foreign programs: taken once (inbox), set aside (quarantine), answered (replies).

CREATE TABLE orchestrator.inbox (
    queue         text COLLATE "C" NOT NULL,
    kind          text NOT NULL,
    app_id        text COLLATE "C" NOT NULL DEFAULT '',
    message_id    text COLLATE "C" NOT NULL,
    content       text NOT NULL,
    taken_at      timestamptz NOT NULL,
    execution_id  uuid,
    delivery      uuid,
    holder        uuid,
    CONSTRAINT inbox_pkey PRIMARY KEY (queue, kind, app_id, message_id),
    CONSTRAINT inbox_kind CHECK (kind IN ('message', 'header', 'other', 'none')),
    CONSTRAINT inbox_held CHECK ((holder IS NULL) = (delivery IS NULL))
);
COMMENT ON TABLE orchestrator.inbox IS 'messages already taken, kept for longer than a broker can bring them again';
COMMENT ON COLUMN orchestrator.inbox.kind IS
    'where the id comes from: the message''s own, a header, its own with another content, none (drawn by us)';
COMMENT ON COLUMN orchestrator.inbox.content IS 'hash of what was taken, which tells an id used twice from a repetition';
COMMENT ON COLUMN orchestrator.inbox.holder IS
    'of a message without an id, until the broker has its acknowledgement: the consumer''s session, which holds an advisory lock';
COMMENT ON COLUMN orchestrator.inbox.delivery IS 'of a message without an id: which delivery of it the holder has';
CREATE INDEX inbox_taken_at ON orchestrator.inbox (taken_at);
CREATE INDEX inbox_unacknowledged ON orchestrator.inbox (queue, content) WHERE holder IS NOT NULL;

ALTER TABLE orchestrator.quarantine
    ADD COLUMN queue text,
    ADD COLUMN properties jsonb,
    ADD COLUMN body bytea,
    ADD COLUMN dropped_at timestamptz,
    ADD CONSTRAINT quarantine_message CHECK ((queue IS NULL) = (body IS NULL) AND (queue IS NULL) = (properties IS NULL)),
    ADD CONSTRAINT quarantine_ended CHECK (released_at IS NULL OR dropped_at IS NULL);
COMMENT ON COLUMN orchestrator.quarantine.queue IS 'where the message came from; null of a step run';
COMMENT ON COLUMN orchestrator.quarantine.execution_id IS
    'of a step run its execution; of a message the execution that its release started';
CREATE INDEX quarantine_open ON orchestrator.quarantine (id) WHERE released_at IS NULL AND dropped_at IS NULL;
CREATE INDEX quarantine_execution ON orchestrator.quarantine (execution_id) WHERE execution_id IS NOT NULL;
CREATE INDEX quarantine_dropped ON orchestrator.quarantine (dropped_at) WHERE dropped_at IS NOT NULL;

CREATE TABLE orchestrator.replies (
    execution_id    uuid NOT NULL,
    reply_to        text COLLATE "C" NOT NULL,
    correlation_id  text COLLATE "C" NOT NULL DEFAULT '',
    tries           integer NOT NULL DEFAULT 0,
    attend_at       timestamptz,
    answered_at     timestamptz,
    problem         text,
    CONSTRAINT replies_pkey PRIMARY KEY (execution_id, reply_to, correlation_id),
    CONSTRAINT replies_answered CHECK (answered_at IS NULL OR attend_at IS NULL)
);
COMMENT ON TABLE orchestrator.replies IS 'who wants to hear how an execution ends';
COMMENT ON COLUMN orchestrator.replies.attend_at IS
    'from when on the reply may be sent, once the execution has ended; null = answered, or given up';
CREATE INDEX replies_attend_at ON orchestrator.replies (attend_at) WHERE attend_at IS NOT NULL;
