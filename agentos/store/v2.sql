-- From schema version 1 to 2: limits, standing grants, labels of files, and what asks and processes have to remember for them.
ALTER TABLE ask ADD COLUMN resource TEXT DEFAULT '' NOT NULL;
ALTER TABLE ask ADD COLUMN effect TEXT DEFAULT '' NOT NULL;
ALTER TABLE ask ADD COLUMN layer TEXT DEFAULT '' NOT NULL;
ALTER TABLE ask ADD COLUMN remember TEXT DEFAULT '' NOT NULL;
ALTER TABLE ask ADD COLUMN question TEXT DEFAULT '' NOT NULL;
ALTER TABLE ask ADD COLUMN offer TEXT DEFAULT '' NOT NULL;
ALTER TABLE ask ADD COLUMN batch TEXT DEFAULT '' NOT NULL;
ALTER TABLE process ADD COLUMN own_layer TEXT DEFAULT '' NOT NULL;
ALTER TABLE process ADD COLUMN endorsing INTEGER DEFAULT 0 NOT NULL;
ALTER TABLE process ADD COLUMN birth_label INTEGER DEFAULT 0 NOT NULL;
-- Nobody wrote down what a process was born with: what it carries now is at least that.
UPDATE process SET birth_label = label WHERE label <> 0;
CREATE TABLE file_label (
    seq INTEGER NOT NULL,
    path TEXT NOT NULL,
    live INTEGER NOT NULL,
    labels INTEGER NOT NULL,
    until INTEGER,
    CHECK (until IS NULL OR until > seq)
);
CREATE UNIQUE INDEX file_label_current ON file_label (path) WHERE until IS NULL;
CREATE TABLE quota (
    seq INTEGER NOT NULL,
    "key" TEXT NOT NULL,
    live INTEGER NOT NULL,
    data BLOB NOT NULL,
    until INTEGER,
    CHECK (until IS NULL OR until > seq)
);
CREATE UNIQUE INDEX quota_current ON quota ("key") WHERE until IS NULL;
CREATE TABLE standing (
    seq INTEGER NOT NULL,
    standing INTEGER NOT NULL,
    live INTEGER NOT NULL,
    state TEXT NOT NULL,
    scope TEXT NOT NULL,
    holder TEXT NOT NULL,
    op TEXT NOT NULL,
    text TEXT NOT NULL,
    rule TEXT NOT NULL,
    layer TEXT NOT NULL,
    ask INTEGER NOT NULL,
    "by" TEXT NOT NULL,
    reason TEXT NOT NULL,
    created DOUBLE NOT NULL,
    expires DOUBLE NOT NULL,
    until INTEGER,
    CHECK (until IS NULL OR until > seq)
);
CREATE UNIQUE INDEX standing_current ON standing (standing) WHERE until IS NULL;
CREATE INDEX standing_live ON standing (standing) WHERE until IS NULL AND live = 1;
CREATE UNIQUE INDEX standing_version ON standing (standing, seq);
