-- Everything that has an id, whatever its kind. `due_at` is queue, lease, retry, timer and crash recovery in one column.
CREATE TABLE IF NOT EXISTS resource (
  kind        {text} NOT NULL,
  id          {text} NOT NULL,
  studio_id   {text} NOT NULL,
  unique_name {text},
  state       {text} NOT NULL,
  version     BIGINT NOT NULL,
  due_at      BIGINT,
  attempts    BIGINT NOT NULL,
  created_at  BIGINT NOT NULL,
  doc         {text} NOT NULL,
  private     {text} NOT NULL,
  PRIMARY KEY (kind, id)
);
CREATE UNIQUE INDEX IF NOT EXISTS resource_unique_name ON resource (kind, unique_name) WHERE unique_name IS NOT NULL;
CREATE INDEX IF NOT EXISTS resource_list ON resource (kind, studio_id, created_at, id);
CREATE INDEX IF NOT EXISTS resource_due ON resource (kind, state, due_at) WHERE due_at IS NOT NULL;

-- Accepted client tokens: small rows, because every mutating call of most clients adds one.
CREATE TABLE IF NOT EXISTS idempotency (
  token_key   {text} NOT NULL PRIMARY KEY,
  digest      {text} NOT NULL,
  kind        {text} NOT NULL,
  id          {text} NOT NULL,
  expires_at  BIGINT NOT NULL
);
CREATE INDEX IF NOT EXISTS idempotency_expiry ON idempotency (expires_at);
