-- What a row belongs to besides its studio, and whom: lists are filtered by both.
ALTER TABLE resource ADD COLUMN parent_id {text};
ALTER TABLE resource ADD COLUMN owner_id {text};
CREATE INDEX IF NOT EXISTS resource_children ON resource (kind, parent_id, created_at, id) WHERE parent_id IS NOT NULL;
CREATE INDEX IF NOT EXISTS resource_owned ON resource (kind, studio_id, owner_id, created_at, id) WHERE owner_id IS NOT NULL;
