"""Runs of sources, and how they ended."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "etl_runs",
        sa.Column("run_id", sa.Text, nullable=False),
        sa.Column("source", sa.Text, nullable=False),
        sa.Column("dataset", sa.Text, nullable=False),
        sa.Column("trigger", sa.Text, nullable=False),
        sa.Column("status", sa.Text, nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("finished_at", sa.DateTime(timezone=True)),
        sa.Column("published", sa.BigInteger),
        sa.Column("stored", sa.BigInteger),
        sa.Column("failed", sa.BigInteger),
        sa.Column("failure_reason", sa.Text),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False, server_default=sa.func.now()),
        sa.PrimaryKeyConstraint("run_id", name="pk_etl_runs"),
    )
    op.create_index("ix_etl_runs_source_started_at", "etl_runs", ["source", "started_at"])
    op.create_index("ix_etl_runs_running", "etl_runs", ["source"], postgresql_where=sa.text("status = 'running'"))


def downgrade() -> None:
    op.drop_table("etl_runs")
