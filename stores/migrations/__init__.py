"""The database's history: Alembic's environment and its versions. Applied by `stores.migrate`."""
