"""Which runs each transaction wrote to, by PostgreSQL's own word."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import create_engine

from watchstep_monitor.store import schema

NOTED = """
CREATE TABLE noted (transaction bigint, name text, run_key bigint);
CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
  INSERT INTO noted VALUES (txid_current(), TG_TABLE_NAME, coalesce(NEW.run_key, OLD.run_key));
  RETURN NULL;
END $$
"""
SPANNING = """
SELECT array_agg(DISTINCT name)::text || ' of ' || count(DISTINCT run_key) || ' runs'
FROM noted GROUP BY transaction HAVING count(DISTINCT run_key) > 1
"""


class SpanningError(AssertionError):
    """A transaction wrote to more than one run."""


@contextmanager
def one_run_a_transaction(url: str) -> Iterator[None]:
    """Have the database note every row that is written, and fail should two runs meet.

    Triggers see what a statement changes, whatever it names.
    """
    engine = create_engine(url, isolation_level="AUTOCOMMIT")
    try:
        with engine.connect() as connection:
            connection.exec_driver_sql(NOTED)
            for table in schema.metadata.sorted_tables:
                if "run_key" in table.columns:
                    connection.exec_driver_sql(
                        f"CREATE TRIGGER note AFTER INSERT OR UPDATE OR DELETE ON {table.name}"
                        " FOR EACH ROW EXECUTE FUNCTION note()"
                    )
        yield
        with engine.connect() as connection:
            spanning = connection.exec_driver_sql(SPANNING).scalars().all()
        if spanning:
            raise SpanningError("; ".join(spanning))
    finally:
        engine.dispose()
