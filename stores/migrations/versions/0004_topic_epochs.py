"""Epochs: which incarnation of a raw topic the books belong to, and rows whose key came in another partition."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

DATASET_TABLES = ("customers", "normalized_data")


def upgrade() -> None:
    op.create_table(
        "topic_epochs",
        sa.Column("topic", sa.Text, nullable=False),
        sa.Column("epoch", sa.Integer, nullable=False),
        sa.Column("topic_id", sa.Text, nullable=False),
        sa.Column("began_at", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("topic", "epoch", name="pk_topic_epochs"),
    )
    for table in DATASET_TABLES:
        op.add_column(table, sa.Column("raw_moves", sa.Integer, nullable=False, server_default="0"))
        op.create_index(f"ix_{table}_raw_moves", table, ["raw_moves"], postgresql_where=sa.text("raw_moves > 0"))


def downgrade() -> None:
    for table in DATASET_TABLES:
        op.drop_index(f"ix_{table}_raw_moves", table)
        op.drop_column(table, "raw_moves")
    op.drop_table("topic_epochs")
