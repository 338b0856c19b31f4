"""A record whose unique value another one holds stays pending, and values may be swapped within one statement."""

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None

_PENDING = sa.text("claim IS NOT NULL")


def upgrade() -> None:
    op.add_column("ingest_failures", sa.Column("claim", sa.LargeBinary))
    op.add_column("ingest_failures", sa.Column("blocked_by", sa.Text))
    op.create_index("ix_ingest_failures_claims", "ingest_failures", ["dataset", "key"], postgresql_where=_PENDING)
    op.create_index(
        "ix_ingest_failures_blocked_by", "ingest_failures", ["dataset", "blocked_by"], postgresql_where=_PENDING
    )
    _unique_email("DEFERRABLE INITIALLY IMMEDIATE")


def downgrade() -> None:
    _unique_email("")
    op.drop_index("ix_ingest_failures_blocked_by", "ingest_failures")
    op.drop_index("ix_ingest_failures_claims", "ingest_failures")
    op.drop_column("ingest_failures", "blocked_by")
    op.drop_column("ingest_failures", "claim")


def _unique_email(when: str) -> None:
    op.execute(
        "ALTER TABLE customers DROP CONSTRAINT uq_customers_email,"
        f" ADD CONSTRAINT uq_customers_email UNIQUE (email) {when}"
    )
