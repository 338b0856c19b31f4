"""What is known of each source's fields, how they have drifted, and what the runs of a source looked like."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0010"
down_revision = "0008"
branch_labels = None
depends_on = None


def _moment(name: str, *, nullable: bool = False, default: bool = False) -> sa.Column[object]:
    return sa.Column(
        name, sa.DateTime(timezone=True), nullable=nullable, server_default=sa.func.now() if default else None
    )


def upgrade() -> None:
    op.create_table(
        "source_schemas",
        sa.Column("source_name", sa.Text, nullable=False),
        sa.Column("dataset", sa.Text, nullable=False),
        sa.Column("state", JSONB, nullable=False),
        _moment("updated_at"),
        sa.PrimaryKeyConstraint("source_name", "dataset", name="pk_source_schemas"),
    )
    op.create_table(
        "schema_drift",
        sa.Column("id", sa.BigInteger, sa.Identity(), primary_key=True),
        sa.Column("source_name", sa.Text, nullable=False),
        sa.Column("dataset", sa.Text, nullable=False),
        sa.Column("field", sa.Text, nullable=False),
        sa.Column("what", sa.Text, nullable=False),
        sa.Column("from_type", sa.Text),
        sa.Column("to_type", sa.Text),
        sa.Column("reason", sa.Text),
        _moment("since"),
        _moment("last_seen"),
        sa.Column("records", sa.BigInteger, nullable=False),
        sa.Column("run_id", sa.Text),
        sa.Column("topic", sa.Text),
        sa.Column("partition", sa.Integer),
        sa.Column("offset", sa.BigInteger),
        sa.Column("example", sa.Text),
        _moment("detected_at", default=True),
        _moment("ended_at", nullable=True),
    )
    op.create_index("ix_schema_drift_source_name_dataset_field", "schema_drift", ["source_name", "dataset", "field"])
    op.create_table(
        "run_profiles",
        sa.Column("run_id", sa.Text, primary_key=True),
        sa.Column("source", sa.Text, nullable=False),
        sa.Column("dataset", sa.Text, nullable=False),
        _moment("profiled_at", default=True),
        sa.Column("features", JSONB, nullable=False),
        sa.Column("sampled", sa.Integer, nullable=False),
        sa.Column("compared_with", sa.Integer, nullable=False),
    )
    op.create_index("ix_run_profiles_source_profiled_at", "run_profiles", ["source", "profiled_at"])
    op.add_column("etl_runs", sa.Column("anomalies", JSONB))


def downgrade() -> None:
    op.drop_column("etl_runs", "anomalies")
    op.drop_table("run_profiles")
    op.drop_table("schema_drift")
    op.drop_table("source_schemas")
