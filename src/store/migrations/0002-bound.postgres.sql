-- A row for each studio and kind whose rows are counted before one is added: whoever counts holds it until the commit, so
-- that no two transactions find the last place free.
CREATE TABLE IF NOT EXISTS bound (
  kind        {text} NOT NULL,
  studio_id   {text} NOT NULL,
  counted     BIGINT NOT NULL,
  PRIMARY KEY (kind, studio_id)
);
