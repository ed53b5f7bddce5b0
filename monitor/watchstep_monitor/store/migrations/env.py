"""Runs the steps on the connection that `opening` hands over."""

from alembic import context

from watchstep_monitor.store.schema import metadata

connection = context.config.attributes["connection"]
context.configure(connection=connection, target_metadata=metadata, transactional_ddl=False)
context.run_migrations()
