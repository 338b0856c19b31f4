"""A change event that the API wrote knows the trace of its request."""

from alembic import op
from sqlalchemy import Column, Text

revision = "0002_traces_in_the_outbox"
down_revision = "0001_first_schema"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("outbox", Column("trace", Text))
