"""What became of each run's records, counted per run and raw partition, and kept with the run."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None

OUTCOMES = ("inserted", "updated", "unchanged", "superseded", "deleted", "failed", "held")


def upgrade() -> None:
    op.create_table(
        "run_outcomes",
        sa.Column("run_id", sa.Text, nullable=False),
        sa.Column("topic", sa.Text, nullable=False),
        sa.Column("partition", sa.Integer, nullable=False),
        *(sa.Column(outcome, sa.BigInteger, nullable=False, server_default="0") for outcome in OUTCOMES),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("run_id", "topic", "partition", name="pk_run_outcomes"),
    )
    op.add_column("etl_runs", sa.Column("outcomes", JSONB))


def downgrade() -> None:
    op.drop_column("etl_runs", "outcomes")
    op.drop_table("run_outcomes")
