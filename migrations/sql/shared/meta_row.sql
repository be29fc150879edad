-- What all nodes agree on.
INSERT INTO {{.meta}} (schema_version, min_compatible, longest_hours, width_hours, lease_ms, retire_grace_s)
VALUES (1, 1, {{.longest_hours}}, {{.width_hours}}, {{.lease_ms}}, {{.retire_grace_s}});
