-- From schema version 2 to 3: checkpoints, schedules, file overlays, retention and archived rows, and what processes have to remember for them.
ALTER TABLE process ADD COLUMN resumes INTEGER DEFAULT 0 NOT NULL;
ALTER TABLE process ADD COLUMN overlay INTEGER DEFAULT 0 NOT NULL;
ALTER TABLE process ADD COLUMN id_map BLOB DEFAULT x'' NOT NULL;
ALTER TABLE process ADD COLUMN code TEXT DEFAULT '' NOT NULL;
ALTER TABLE process ADD COLUMN restored TEXT DEFAULT '' NOT NULL;
CREATE INDEX cap_of_pid ON cap (pid, seq);
CREATE TABLE checkpoint (
    seq INTEGER NOT NULL,
    checkpoint TEXT NOT NULL,
    live INTEGER NOT NULL,
    tree INTEGER NOT NULL,
    pid INTEGER NOT NULL,
    at_seq INTEGER NOT NULL,
    note TEXT NOT NULL,
    "by" INTEGER NOT NULL,
    at DOUBLE NOT NULL,
    until INTEGER,
    CHECK (until IS NULL OR until > seq)
);
CREATE UNIQUE INDEX checkpoint_current ON checkpoint (checkpoint) WHERE until IS NULL;
CREATE INDEX checkpoint_live ON checkpoint (checkpoint) WHERE until IS NULL AND live = 1;
CREATE UNIQUE INDEX checkpoint_version ON checkpoint (checkpoint, seq);
CREATE INDEX message_of_pid ON message (pid, seq);
CREATE INDEX name_of_namespace ON name (namespace, seq);
CREATE TABLE overlay (
    seq INTEGER NOT NULL,
    pid INTEGER NOT NULL,
    path TEXT NOT NULL,
    live INTEGER NOT NULL,
    kind TEXT NOT NULL,
    object TEXT NOT NULL,
    size INTEGER NOT NULL,
    base TEXT NOT NULL,
    labels INTEGER NOT NULL,
    until INTEGER,
    CHECK (until IS NULL OR until > seq)
);
CREATE UNIQUE INDEX overlay_current ON overlay (pid, path) WHERE until IS NULL;
CREATE INDEX overlay_live ON overlay (pid, path) WHERE until IS NULL AND live = 1;
CREATE UNIQUE INDEX overlay_version ON overlay (pid, path, seq);
CREATE INDEX process_of_tree ON process (tree, seq);
CREATE TABLE retention (
    seq INTEGER NOT NULL,
    retention INTEGER NOT NULL,
    live INTEGER NOT NULL,
    scope TEXT NOT NULL,
    value TEXT NOT NULL,
    action TEXT NOT NULL,
    keep_s DOUBLE NOT NULL,
    created DOUBLE NOT NULL,
    until INTEGER,
    CHECK (until IS NULL OR until > seq)
);
CREATE UNIQUE INDEX retention_current ON retention (retention) WHERE until IS NULL;
CREATE INDEX retention_live ON retention (retention) WHERE until IS NULL AND live = 1;
CREATE UNIQUE INDEX retention_version ON retention (retention, seq);
CREATE TABLE schedule (
    seq INTEGER NOT NULL,
    schedule INTEGER NOT NULL,
    live INTEGER NOT NULL,
    state TEXT NOT NULL,
    image TEXT NOT NULL,
    every_s DOUBLE NOT NULL,
    cron TEXT NOT NULL,
    zone TEXT NOT NULL,
    overlap TEXT NOT NULL,
    goal BLOB NOT NULL,
    args BLOB NOT NULL,
    options BLOB NOT NULL,
    due DOUBLE NOT NULL,
    last_pid INTEGER NOT NULL,
    runs INTEGER NOT NULL,
    skipped INTEGER NOT NULL,
    created DOUBLE NOT NULL,
    until INTEGER,
    CHECK (until IS NULL OR until > seq)
);
CREATE UNIQUE INDEX schedule_current ON schedule (schedule) WHERE until IS NULL;
CREATE INDEX schedule_live ON schedule (schedule) WHERE until IS NULL AND live = 1;
CREATE UNIQUE INDEX schedule_version ON schedule (schedule, seq);
CREATE TABLE segment (
    page INTEGER NOT NULL,
    codec TEXT NOT NULL,
    size INTEGER NOT NULL,
    body BLOB NOT NULL,
    PRIMARY KEY (page)
);
CREATE TABLE segment_pid (
    pid INTEGER NOT NULL,
    page INTEGER NOT NULL,
    PRIMARY KEY (pid, page)
);
-- Rows of later writers have digest and key among their salted content.
INSERT INTO meta (name, value) SELECT 'salted_from', CAST(epoch + 1 AS TEXT) FROM head;
