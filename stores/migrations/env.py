"""Run by Alembic with the connection that `stores.migrate` hands over; there is no other way to run it."""

from alembic import context

from stores.tables import all_tables

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=all_tables(),
    compare_type=True,
    compare_server_default=True,
)
with context.begin_transaction():
    context.run_migrations()
