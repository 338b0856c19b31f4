"""The first schema: the tables that stores/tables.py declares.

`stores.migrate` makes them in an empty database and notes the newest revision there: a revision is for older databases.
tests/integration/first_schema.sql is this schema as it was.
"""

revision = "0001_first_schema"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    pass
