-- What somebody has in whichever studio: memberships, for what belongs to no studio.
CREATE INDEX IF NOT EXISTS resource_owner ON resource (kind, owner_id, created_at, id) WHERE owner_id IS NOT NULL;
