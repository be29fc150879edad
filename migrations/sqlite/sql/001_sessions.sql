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
  -- What a former retire grace keeps is kept for as long as that.
  retire_grace_s          INTEGER NOT NULL CHECK (retire_grace_s BETWEEN 60 AND 315360000),
  retire_grace_was_s      INTEGER NOT NULL DEFAULT 0,
  retire_grace_changed_at INTEGER NOT NULL DEFAULT 0,
  pruned_at      INTEGER,
  pruned_by      TEXT,
  swept_to       INTEGER NOT NULL DEFAULT 0
) STRICT;
INSERT INTO {{.meta}} (one, schema_version, min_compatible, retire_grace_s) VALUES (1, 1, 1, {{.retire_grace_s}});
