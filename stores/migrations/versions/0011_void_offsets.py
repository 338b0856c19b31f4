"""Offsets that carry no record, counted in the books of their raw partition."""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("coverage", sa.Column("void", sa.BigInteger, nullable=False, server_default="0"))


def downgrade() -> None:
    op.drop_column("coverage", "void")
