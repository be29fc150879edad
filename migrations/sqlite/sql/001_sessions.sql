-- Times are microseconds since 1970 UTC. An ended row has lost its data and
-- user; one that was found expired has ended_at = expires_at. A row is kept until
-- the bucket kept_to has passed: its own, or a later one of those that lead to it.
CREATE TABLE {{.sessions}} (
  id          INTEGER PRIMARY KEY,
  key         BLOB    NOT NULL UNIQUE CHECK (length(key) = 32),
  bucket      INTEGER NOT NULL CHECK (bucket = max(1, (deadline + 3599999999) / 3600000000)),
  kept_to     INTEGER NOT NULL CHECK (kept_to >= bucket),
  version     INTEGER NOT NULL,
  expires_at  INTEGER NOT NULL CHECK (expires_at <= deadline),
  deadline    INTEGER NOT NULL,
  created_at  INTEGER NOT NULL,
  ended_at    INTEGER,
  renewed_to  BLOB,
  grace_until INTEGER,
  user_id     TEXT,
  data        BLOB
) STRICT;
-- What pruning deletes. The expiry is not indexed: a touch changes one page.
CREATE INDEX {{.end_index}} ON {{.sessions}} (kept_to);
CREATE INDEX {{.user_index}} ON {{.sessions}} (user_id) WHERE user_id IS NOT NULL;
CREATE TABLE {{.meta}} (
  one            INTEGER PRIMARY KEY CHECK (one = 1),
  schema_version INTEGER NOT NULL,
  min_compatible INTEGER NOT NULL,
  pruned_at      INTEGER,
  pruned_by      TEXT,
  swept_to       INTEGER NOT NULL DEFAULT 0
) STRICT;
INSERT INTO {{.meta}} (one, schema_version, min_compatible) VALUES (1, 1, 1);
