-- Who changed what, and who was refused: a line each, written with the change that it is about. The key is in the order of
-- time, so that lines are added at the end, read from there, and forgotten from the beginning, without another index.
CREATE TABLE IF NOT EXISTS audit (
  at             BIGINT NOT NULL,
  id             {text} NOT NULL,
  principal_id   {text} NOT NULL,
  access_key_id  {text} NOT NULL,
  operation      {text} NOT NULL,
  studio_id      {text} NOT NULL,
  resource_id    {text} NOT NULL,
  outcome        {text} NOT NULL,
  doc            {text} NOT NULL,
  PRIMARY KEY (at, id)
){clustered};
