"""Customers, normalized data, raw landing, failures, coverage, and the sequence of versions."""

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute(sa.schema.CreateSequence(sa.Sequence("row_version")))
    _raw_table("raw_api_data")
    _raw_table("raw_csv_data")
    op.create_table(
        "ingest_failures",
        sa.Column("id", sa.BigInteger, sa.Identity(), nullable=False),
        sa.Column("dataset", sa.Text, nullable=False),
        sa.Column("source_name", sa.Text),
        sa.Column("run_id", sa.Text),
        sa.Column("key", sa.Text),
        sa.Column("stage", sa.Text, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("message", sa.Text, nullable=False),
        sa.Column("problems", postgresql.JSONB, nullable=False),
        sa.Column("payload", sa.LargeBinary),
        sa.Column("topic", sa.Text, nullable=False),
        sa.Column("partition", sa.Integer, nullable=False),
        sa.Column("offset", sa.BigInteger, nullable=False),
        sa.Column("failed_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_ingest_failures"),
        sa.UniqueConstraint("topic", "partition", "offset", name="uq_ingest_failures_topic_partition_offset"),
    )
    op.create_index("ix_ingest_failures_dataset_reason", "ingest_failures", ["dataset", "reason"])
    op.create_table(
        "coverage",
        sa.Column("topic", sa.Text, nullable=False),
        sa.Column("partition", sa.Integer, nullable=False),
        sa.Column("ranges", postgresql.INT8MULTIRANGE, nullable=False),
        sa.Column("inserted", sa.BigInteger, nullable=False, server_default="0"),
        sa.Column("updated", sa.BigInteger, nullable=False, server_default="0"),
        sa.Column("unchanged", sa.BigInteger, nullable=False, server_default="0"),
        sa.Column("superseded", sa.BigInteger, nullable=False, server_default="0"),
        sa.Column("deleted", sa.BigInteger, nullable=False, server_default="0"),
        sa.Column("failed", sa.BigInteger, nullable=False, server_default="0"),
        sa.PrimaryKeyConstraint("topic", "partition", name="pk_coverage"),
    )
    op.create_table(
        "customers",
        sa.Column("customer_id", sa.VARCHAR(50), nullable=False),
        sa.Column("first_name", sa.VARCHAR(100), nullable=False),
        sa.Column("last_name", sa.VARCHAR(100), nullable=False),
        sa.Column("email", sa.VARCHAR(255), nullable=False),
        sa.Column("phone", sa.VARCHAR(20)),
        sa.Column("address", sa.Text),
        sa.Column("date_of_birth", sa.Date),
        sa.Column("account_balance", sa.Numeric(15, 2)),
        *_provenance(),
        sa.PrimaryKeyConstraint("customer_id", name="pk_customers"),
        sa.UniqueConstraint("email", name="uq_customers_email"),
    )
    op.create_table(
        "normalized_data",
        sa.Column("id", sa.BigInteger, sa.Identity(), nullable=False),
        sa.Column("source", sa.VARCHAR(100), nullable=False),
        sa.Column("source_name", sa.VARCHAR(100), nullable=False),
        sa.Column("source_id", sa.VARCHAR(200), nullable=False),
        sa.Column("name", sa.VARCHAR(500), nullable=False),
        sa.Column("value", sa.Numeric(20, 4)),
        sa.Column("description", sa.Text),
        *_provenance(),
        sa.PrimaryKeyConstraint("id", name="pk_normalized_data"),
        sa.UniqueConstraint("source_name", "source_id", name="uq_normalized_data_source_name_source_id"),
    )


def downgrade() -> None:
    for table in (
        "normalized_data",
        "customers",
        "coverage",
        "ingest_failures",
        "raw_csv_data",
        "raw_api_data",
    ):
        op.drop_table(table)
    op.execute(sa.schema.DropSequence(sa.Sequence("row_version")))


def _raw_table(name: str) -> None:
    op.create_table(
        name,
        sa.Column("topic", sa.Text, nullable=False),
        sa.Column("partition", sa.Integer, nullable=False),
        sa.Column("offset", sa.BigInteger, nullable=False),
        sa.Column("key", sa.Text),
        sa.Column("source_name", sa.Text),
        sa.Column("run_id", sa.Text),
        sa.Column("payload", sa.LargeBinary),
        sa.Column("received_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("topic", "partition", "offset", name=f"pk_{name}"),
    )


def _provenance() -> tuple[sa.Column[Any], ...]:
    return (
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False, server_default=sa.func.now()),
        sa.Column("updated_at", sa.DateTime(timezone=True)),
        sa.Column("search_text", sa.Text, nullable=False),
        sa.Column("version", sa.BigInteger, nullable=False),
        sa.Column("raw_partition", sa.Integer, nullable=False),
        sa.Column("raw_offset", sa.BigInteger, nullable=False),
        sa.Column("raw_timestamp", sa.BigInteger, nullable=False),
    )
