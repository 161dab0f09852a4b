-- Schema version 1, as it was released. Frozen: a store made then is read by these words, so they never change.
CREATE TABLE account (
    seq INTEGER NOT NULL,
    pid INTEGER NOT NULL,
    live INTEGER NOT NULL,
    floor INTEGER NOT NULL,
    own BLOB NOT NULL,
    ended BLOB NOT NULL,
    until INTEGER,
    CHECK (until IS NULL OR until > seq)
);
CREATE UNIQUE INDEX account_current ON account (pid) WHERE until IS NULL;
CREATE INDEX account_live ON account (pid) WHERE until IS NULL AND live = 1;
CREATE UNIQUE INDEX account_version ON account (pid, seq);
CREATE TABLE ask (
    seq INTEGER NOT NULL,
    ask INTEGER NOT NULL,
    pid INTEGER NOT NULL,
    number TEXT NOT NULL,
    live INTEGER NOT NULL,
    state TEXT NOT NULL,
    kind TEXT NOT NULL,
    op TEXT NOT NULL,
    args BLOB NOT NULL,
    preview BLOB NOT NULL,
    digest BLOB NOT NULL,
    rule TEXT NOT NULL,
    rule_name TEXT NOT NULL,
    because TEXT NOT NULL,
    labels INTEGER NOT NULL,
    lineage BLOB NOT NULL,
    created DOUBLE NOT NULL,
    expires DOUBLE NOT NULL,
    answer BLOB NOT NULL,
    until INTEGER,
    CHECK (until IS NULL OR until > seq)
);
CREATE UNIQUE INDEX ask_current ON ask (ask) WHERE until IS NULL;
CREATE INDEX ask_live ON ask (ask) WHERE until IS NULL AND live = 1;
CREATE UNIQUE INDEX ask_version ON ask (ask, seq);
CREATE TABLE cap (
    seq INTEGER NOT NULL,
    cap INTEGER NOT NULL,
    pid INTEGER NOT NULL,
    live INTEGER NOT NULL,
    state TEXT NOT NULL,
    text TEXT NOT NULL,
    uses_left INTEGER NOT NULL,
    expires DOUBLE NOT NULL,
    depth INTEGER NOT NULL,
    parent INTEGER NOT NULL,
    origin TEXT NOT NULL,
    until INTEGER,
    CHECK (until IS NULL OR until > seq)
);
CREATE UNIQUE INDEX cap_current ON cap (cap) WHERE until IS NULL;
CREATE INDEX cap_live ON cap (cap) WHERE until IS NULL AND live = 1;
CREATE UNIQUE INDEX cap_version ON cap (cap, seq);
CREATE TABLE head (
    id INTEGER NOT NULL CHECK (id = 1),
    genesis BLOB NOT NULL,
    seq INTEGER NOT NULL,
    hash BLOB NOT NULL,
    epoch INTEGER NOT NULL,
    pid INTEGER NOT NULL,
    PRIMARY KEY (id)
);
CREATE TABLE image (
    seq INTEGER NOT NULL,
    digest TEXT NOT NULL,
    live INTEGER NOT NULL,
    name TEXT NOT NULL,
    version TEXT NOT NULL,
    manifest BLOB NOT NULL,
    at DOUBLE NOT NULL,
    until INTEGER,
    CHECK (until IS NULL OR until > seq)
);
CREATE UNIQUE INDEX image_current ON image (digest) WHERE until IS NULL;
CREATE INDEX image_live ON image (digest) WHERE until IS NULL AND live = 1;
CREATE UNIQUE INDEX image_version ON image (digest, seq);
CREATE TABLE journal (
    pid INTEGER NOT NULL,
    number TEXT NOT NULL,
    kind TEXT NOT NULL,
    op TEXT NOT NULL,
    resource TEXT,
    effect TEXT NOT NULL,
    digest BLOB NOT NULL,
    args BLOB,
    outcome TEXT NOT NULL,
    code TEXT NOT NULL,
    rule TEXT NOT NULL,
    cap INTEGER NOT NULL,
    ask INTEGER NOT NULL,
    labels INTEGER NOT NULL,
    cost BLOB NOT NULL,
    result BLOB,
    "key" TEXT NOT NULL,
    parent INTEGER NOT NULL,
    at DOUBLE NOT NULL,
    seq INTEGER NOT NULL,
    epoch INTEGER NOT NULL,
    salt BLOB,
    content_hash BLOB,
    hash BLOB NOT NULL,
    PRIMARY KEY (seq)
);
CREATE INDEX journal_by_key ON journal (pid, "key") WHERE key <> '';
CREATE INDEX journal_of_pid ON journal (pid, seq);
CREATE INDEX journal_result ON journal (parent, seq) WHERE kind = 'result';
CREATE TABLE message (
    seq INTEGER NOT NULL,
    message INTEGER NOT NULL,
    pid INTEGER NOT NULL,
    live INTEGER NOT NULL,
    state TEXT NOT NULL,
    sender INTEGER NOT NULL,
    channel TEXT NOT NULL,
    value BLOB NOT NULL,
    labels INTEGER NOT NULL,
    reply_to INTEGER NOT NULL,
    at DOUBLE NOT NULL,
    until INTEGER,
    CHECK (until IS NULL OR until > seq)
);
CREATE UNIQUE INDEX message_current ON message (message) WHERE until IS NULL;
CREATE INDEX message_live ON message (message) WHERE until IS NULL AND live = 1;
CREATE UNIQUE INDEX message_version ON message (message, seq);
CREATE TABLE meta (
    name TEXT NOT NULL,
    value TEXT NOT NULL,
    PRIMARY KEY (name)
);
CREATE TABLE name (
    seq INTEGER NOT NULL,
    namespace TEXT NOT NULL,
    name TEXT NOT NULL,
    live INTEGER NOT NULL,
    version INTEGER NOT NULL,
    type TEXT NOT NULL,
    digest TEXT NOT NULL,
    value BLOB NOT NULL,
    labels INTEGER NOT NULL,
    made_by INTEGER NOT NULL,
    pid INTEGER NOT NULL,
    at DOUBLE NOT NULL,
    tags BLOB NOT NULL,
    sources BLOB NOT NULL,
    until INTEGER,
    CHECK (until IS NULL OR until > seq)
);
CREATE UNIQUE INDEX name_current ON name (namespace, name) WHERE until IS NULL;
CREATE INDEX name_live ON name (namespace, name) WHERE until IS NULL AND live = 1;
CREATE UNIQUE INDEX name_version ON name (namespace, name, seq);
CREATE TABLE object (
    id INTEGER NOT NULL,
    hash BLOB NOT NULL,
    codec TEXT NOT NULL,
    size INTEGER NOT NULL,
    body BLOB NOT NULL,
    PRIMARY KEY (id),
    UNIQUE (hash)
);
CREATE TABLE policy (
    seq INTEGER NOT NULL,
    digest TEXT NOT NULL,
    live INTEGER NOT NULL,
    name TEXT NOT NULL,
    source TEXT NOT NULL,
    text BLOB NOT NULL,
    until INTEGER,
    CHECK (until IS NULL OR until > seq)
);
CREATE UNIQUE INDEX policy_current ON policy (digest) WHERE until IS NULL;
CREATE INDEX policy_live ON policy (digest) WHERE until IS NULL AND live = 1;
CREATE UNIQUE INDEX policy_version ON policy (digest, seq);
CREATE TABLE process (
    seq INTEGER NOT NULL,
    pid INTEGER NOT NULL,
    ppid INTEGER NOT NULL,
    tree INTEGER NOT NULL,
    depth INTEGER NOT NULL,
    live INTEGER NOT NULL,
    state TEXT NOT NULL,
    name TEXT NOT NULL,
    image TEXT NOT NULL,
    image_digest TEXT NOT NULL,
    program TEXT NOT NULL,
    goal BLOB NOT NULL,
    args BLOB NOT NULL,
    limits BLOB NOT NULL,
    weight DOUBLE NOT NULL,
    deadline DOUBLE NOT NULL,
    created DOUBLE NOT NULL,
    label INTEGER NOT NULL,
    cwd TEXT NOT NULL,
    layers BLOB NOT NULL,
    save_seq INTEGER NOT NULL,
    save_number INTEGER NOT NULL,
    save_state BLOB NOT NULL,
    fork_pid INTEGER NOT NULL,
    fork_seq INTEGER NOT NULL,
    waits BLOB NOT NULL,
    exit BLOB NOT NULL,
    options BLOB NOT NULL,
    until INTEGER,
    CHECK (until IS NULL OR until > seq)
);
CREATE UNIQUE INDEX process_current ON process (pid) WHERE until IS NULL;
CREATE INDEX process_live ON process (pid) WHERE until IS NULL AND live = 1;
CREATE UNIQUE INDEX process_version ON process (pid, seq);
CREATE TABLE timer (
    seq INTEGER NOT NULL,
    pid INTEGER NOT NULL,
    number TEXT NOT NULL,
    live INTEGER NOT NULL,
    due DOUBLE NOT NULL,
    until INTEGER,
    CHECK (until IS NULL OR until > seq)
);
CREATE UNIQUE INDEX timer_current ON timer (pid, number) WHERE until IS NULL;
CREATE INDEX timer_live ON timer (pid, number) WHERE until IS NULL AND live = 1;
CREATE UNIQUE INDEX timer_version ON timer (pid, number, seq);
