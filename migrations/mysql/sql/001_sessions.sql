-- A statement that was done before a migration was interrupted is tried again
-- by the next one: it must do nothing then, or fail with an error that says that
-- it is done already. The version is written last.
CREATE TABLE IF NOT EXISTS {{.meta}} (
  one            tinyint NOT NULL PRIMARY KEY CHECK (one = 1),
  schema_version int     NOT NULL,
  min_compatible int     NOT NULL,
  longest_hours  int     NOT NULL CHECK (longest_hours BETWEEN 1 AND 87600),
  -- What a former retire grace keeps is kept for as long as that.
  retire_grace_s          int    NOT NULL CHECK (retire_grace_s BETWEEN 60 AND 315360000),
  retire_grace_was_s      int    NOT NULL DEFAULT 0,
  retire_grace_changed_at bigint NOT NULL DEFAULT 0,
  pruned_at      bigint,
  pruned_by      varbinary(255),
  swept_to       bigint unsigned NOT NULL DEFAULT 0
) ENGINE=InnoDB;
-- Version 0: under way.
INSERT IGNORE INTO {{.meta}} (one, schema_version, min_compatible, longest_hours, retire_grace_s)
VALUES (1, 0, 0, {{.longest_hours}}, {{.retire_grace_s}});
-- Times are microseconds since 1970 UTC. An ended row has lost its data and
-- user; one that was found expired has ended_at = expires_at. A row is kept until
-- the bucket kept_to has passed: its own, or a later one of those that lead to it.
-- The expiry is not indexed: a touch changes one page.
CREATE TABLE IF NOT EXISTS {{.sessions}} (
  id          bigint unsigned NOT NULL AUTO_INCREMENT,
  hash        binary(32) NOT NULL,
  bucket      int        NOT NULL,
  kept_to     int        NOT NULL,
  version     bigint     NOT NULL,
  expires_at  bigint     NOT NULL,
  deadline    bigint     NOT NULL,
  created_at  bigint     NOT NULL,
  ended_at    bigint,
  renewed_to  binary(32),
  grace_until bigint,
  user_id     varbinary(2000),
  data        longblob,
  PRIMARY KEY (hash),
  UNIQUE KEY by_id (id),
  KEY by_end (kept_to),
  KEY by_user (user_id, id),
  CHECK (expires_at <= deadline),
  CHECK (kept_to >= bucket),
  CHECK (bucket = greatest(1, (deadline + 3599999999) DIV 3600000000))
) ENGINE=InnoDB ROW_FORMAT=DYNAMIC;
-- The locks that the users share: whoever creates a session of a user holds one.
CREATE TABLE IF NOT EXISTS {{.users}} (
  stripe smallint NOT NULL PRIMARY KEY
) ENGINE=InnoDB;
INSERT IGNORE INTO {{.users}} (stripe)
WITH RECURSIVE n (i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < 255) SELECT i FROM n;
UPDATE {{.meta}} SET schema_version = 1, min_compatible = 1 WHERE one = 1 AND schema_version < 1;
