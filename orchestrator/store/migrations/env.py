"""Alembic environment: runs on the connection that `orchestrator.store.migrate` hands in."""

from alembic import context

connection = context.config.attributes["connection"]
context.configure(
    connection=connection,
    version_table="schema_version",
    version_table_schema="orchestrator",
    include_schemas=True,
)
with context.begin_transaction():
    context.run_migrations()
