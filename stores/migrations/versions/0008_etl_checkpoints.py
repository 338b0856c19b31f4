"""Checkpoints: where reading a source goes on, and what of an API's pages was sent last."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "etl_checkpoint",
        sa.Column("source", sa.Text, nullable=False),
        sa.Column("scope", sa.Text, nullable=False),
        sa.Column("position", JSONB, nullable=False),
        sa.Column("run_id", sa.Text, nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("source", name="pk_etl_checkpoint"),
    )
    op.create_table(
        "etl_checkpoint_pages",
        sa.Column("source", sa.Text, nullable=False),
        sa.Column("seq", sa.BigInteger, sa.Identity(), nullable=False),
        sa.Column("page", sa.Integer),
        sa.Column("etag", sa.Text),
        sa.Column("last_modified", sa.Text),
        sa.Column("records", sa.LargeBinary, nullable=False),
        sa.PrimaryKeyConstraint("source", "seq", name="pk_etl_checkpoint_pages"),
        sa.ForeignKeyConstraint(
            ["source"], ["etl_checkpoint.source"], ondelete="CASCADE", name="fk_etl_checkpoint_pages_source"
        ),
    )
    op.create_index("ix_etl_checkpoint_pages_source_page", "etl_checkpoint_pages", ["source", "page"])


def downgrade() -> None:
    op.drop_table("etl_checkpoint_pages")
    op.drop_table("etl_checkpoint")
