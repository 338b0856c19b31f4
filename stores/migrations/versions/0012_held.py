"""Records of a source that is over the failure limit are held under their coordinates."""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("coverage", sa.Column("held", sa.BigInteger, nullable=False, server_default="0"))
    op.add_column("ingest_failures", sa.Column("raw_timestamp", sa.BigInteger))


def downgrade() -> None:
    op.drop_column("ingest_failures", "raw_timestamp")
    op.drop_column("coverage", "held")
