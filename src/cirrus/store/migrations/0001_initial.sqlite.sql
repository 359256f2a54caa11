-- Every row with a `seq` is a moment of one history: the order of `seq` is the order of commits.
-- Times are seconds since 1970, UTC. JSON is UTF-8 text in BLOB columns.

CREATE TABLE instance (
    id TEXT NOT NULL,                      -- 16 hex digits: in names and labels of all attempts
    states_from INTEGER NOT NULL DEFAULT 0 -- the seed's rule-state queue shows what came since
) STRICT;

-- Definitions -----------------------------------------------------------------------------------

CREATE TABLE definition (
    kind TEXT NOT NULL CHECK (kind IN ('event', 'event_set', 'rule')),
    name TEXT NOT NULL,
    version INTEGER NOT NULL CHECK (version >= 1),
    seq INTEGER NOT NULL UNIQUE,
    time REAL NOT NULL,
    document BLOB,                         -- NULL: deleted by this version
    newest INTEGER NOT NULL CHECK (newest IN (0, 1)),
    PRIMARY KEY (kind, name, version)
) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX definition_newest ON definition (kind, name) WHERE newest = 1;

-- What the newest definitions refer to: found again without reading them all.
CREATE TABLE member (
    event TEXT NOT NULL,
    event_set TEXT NOT NULL,
    place INTEGER NOT NULL,
    PRIMARY KEY (event, event_set)
) STRICT, WITHOUT ROWID;
CREATE INDEX member_of_set ON member (event_set, place);

CREATE TABLE listener (
    heard TEXT NOT NULL,                   -- the set or event that the rule is on
    rule TEXT NOT NULL,
    PRIMARY KEY (heard, rule)
) STRICT, WITHOUT ROWID;
CREATE INDEX listener_rule ON listener (rule);

CREATE TABLE paused (rule TEXT PRIMARY KEY) STRICT, WITHOUT ROWID;

-- Occurrences and what stands -------------------------------------------------------------------

CREATE TABLE occurrence (
    seq INTEGER PRIMARY KEY,
    event TEXT NOT NULL,
    key TEXT NOT NULL,
    source TEXT,
    id TEXT,
    digest BLOB,                           -- of the content, where there is an identity
    time REAL,                             -- as the sender gave it
    received REAL NOT NULL,
    data BLOB NOT NULL,
    force INTEGER NOT NULL CHECK (force IN (0, 1)),
    job TEXT,                              -- the cause
    fired INTEGER,
    root INTEGER NOT NULL,
    depth INTEGER NOT NULL,
    by_worker INTEGER NOT NULL DEFAULT 0 CHECK (by_worker IN (0, 1)),
    verdicts BLOB NOT NULL,                -- JSON: [{rule, verdict, job, generation, missing, lacking}]
    whole TEXT NOT NULL,                   -- late, stopped, superseded, refused; or empty
    problem TEXT NOT NULL,
    CHECK ((source IS NULL) = (id IS NULL) AND (id IS NULL) = (digest IS NULL))
) STRICT;
CREATE UNIQUE INDEX occurrence_identity ON occurrence (source, id) WHERE id IS NOT NULL;
CREATE INDEX occurrence_key ON occurrence (key, seq) WHERE key <> '';
CREATE INDEX occurrence_event ON occurrence (event, seq);
CREATE UNIQUE INDEX occurrence_worker ON occurrence (job, event, key) WHERE by_worker = 1;

CREATE TABLE chain (
    root INTEGER PRIMARY KEY,
    length INTEGER NOT NULL                -- occurrences caused by this root, directly or not
) STRICT;

CREATE TABLE standing (
    key TEXT NOT NULL,
    event TEXT NOT NULL,
    seq INTEGER NOT NULL,
    forced INTEGER NOT NULL CHECK (forced IN (0, 1)),
    PRIMARY KEY (key, event)
) STRICT, WITHOUT ROWID;

-- What `standing` says of a set of several members, as bits; made again when it is missing.
CREATE TABLE joined (
    key TEXT NOT NULL,
    event_set TEXT NOT NULL,
    version INTEGER NOT NULL,
    bits BLOB NOT NULL,                    -- little endian: bit n for the n-th member
    PRIMARY KEY (key, event_set)
) STRICT, WITHOUT ROWID;

CREATE TABLE reset (
    seq INTEGER PRIMARY KEY,
    time REAL NOT NULL,
    key TEXT,                              -- NULL: every key
    namespace TEXT,                        -- NULL: every namespace
    source TEXT,
    id TEXT,
    digest BLOB
) STRICT;
CREATE UNIQUE INDEX reset_identity ON reset (source, id) WHERE id IS NOT NULL;
CREATE INDEX reset_key ON reset (key, namespace, seq);

-- Firings and their jobs ------------------------------------------------------------------------

CREATE TABLE firing_state (
    rule TEXT NOT NULL,
    key TEXT NOT NULL,
    generation INTEGER NOT NULL,
    fired INTEGER NOT NULL,
    open INTEGER NOT NULL CHECK (open IN (0, 1)),
    counted INTEGER NOT NULL,
    PRIMARY KEY (rule, key)
) STRICT, WITHOUT ROWID;

CREATE TABLE job (
    seq INTEGER PRIMARY KEY,               -- of the firing
    id TEXT NOT NULL UNIQUE,
    time REAL NOT NULL,
    rule TEXT NOT NULL,
    rule_version INTEGER NOT NULL,
    event_set TEXT NOT NULL,
    event_set_version INTEGER NOT NULL,    -- 0: an event of that name
    triggering_version INTEGER NOT NULL,   -- of the set that it triggers; 0: an event, or nothing
    key TEXT NOT NULL,
    generation INTEGER NOT NULL CHECK (generation >= 1),
    forced INTEGER NOT NULL CHECK (forced IN (0, 1)),
    members BLOB NOT NULL,                 -- JSON: the seq of each member, 0 where none stood
    root INTEGER NOT NULL,
    depth INTEGER NOT NULL,
    retried TEXT NOT NULL DEFAULT '',
    executor TEXT NOT NULL,                -- empty: an auto-trigger
    cores REAL NOT NULL,
    memory INTEGER NOT NULL,
    state TEXT NOT NULL,
    attempt INTEGER NOT NULL DEFAULT 0,
    failures INTEGER NOT NULL DEFAULT 0,
    crashes INTEGER NOT NULL DEFAULT 0,
    due REAL,
    dispatcher TEXT,
    since REAL,
    accepted INTEGER CHECK (accepted IN (0, 1)),
    stopping INTEGER CHECK (stopping IN (0, 1)),
    finished REAL,
    output BLOB,
    UNIQUE (rule, key, generation),
    CHECK (CASE state
        WHEN 'triggered' THEN due IS NOT NULL AND dispatcher IS NULL AND finished IS NULL
        WHEN 'dispatched' THEN dispatcher IS NOT NULL AND attempt >= 1 AND finished IS NULL
        WHEN 'running' THEN dispatcher IS NOT NULL AND attempt >= 1 AND finished IS NULL
        WHEN 'succeeded' THEN finished IS NOT NULL AND dispatcher IS NULL
        WHEN 'failed' THEN finished IS NOT NULL AND dispatcher IS NULL
        WHEN 'cancelled' THEN finished IS NOT NULL AND dispatcher IS NULL
        ELSE 0 END)
) STRICT;
CREATE INDEX job_waiting ON job (executor, due, seq) WHERE state = 'triggered';
CREATE INDEX job_active ON job (dispatcher) WHERE state IN ('dispatched', 'running');
CREATE INDEX job_key ON job (key, seq) WHERE key <> '';
CREATE INDEX job_state ON job (state, seq) WHERE state <> 'succeeded';

CREATE TABLE attempt (
    job TEXT NOT NULL,
    attempt INTEGER NOT NULL CHECK (attempt >= 1),
    dispatcher TEXT NOT NULL,
    executor TEXT NOT NULL,
    dispatched REAL NOT NULL,
    started REAL,
    finished REAL,
    outcome TEXT,
    exit_code INTEGER,
    reason TEXT,
    late INTEGER NOT NULL DEFAULT 0,       -- its end came when it was no longer current
    PRIMARY KEY (job, attempt)
) STRICT, WITHOUT ROWID;

-- A job's moves after `triggered`, and workers' notes.
CREATE TABLE moment (
    seq INTEGER PRIMARY KEY,
    time REAL NOT NULL,
    kind TEXT NOT NULL CHECK (kind IN ('move', 'note', 'pause')),
    rule TEXT NOT NULL,
    job TEXT NOT NULL,
    key TEXT NOT NULL,
    state TEXT NOT NULL,
    attempt INTEGER NOT NULL,
    outcome TEXT NOT NULL,
    reason TEXT NOT NULL
) STRICT;
CREATE INDEX moment_job ON moment (job, seq) WHERE job <> '';

CREATE TABLE dispatcher (
    name TEXT PRIMARY KEY,
    hello BLOB NOT NULL,                   -- JSON, as it last said it
    time REAL NOT NULL
) STRICT, WITHOUT ROWID;
