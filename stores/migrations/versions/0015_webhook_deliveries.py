"""Which deliveries to webhooks are known, so that one that comes again is not published again."""

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "webhook_deliveries",
        sa.Column("source", sa.Text, nullable=False),
        sa.Column("key", sa.Text, nullable=False),
        sa.Column("digest", sa.LargeBinary, nullable=False),
        sa.Column("claim", sa.Text, nullable=False),
        sa.Column("accepted", sa.Integer),
        sa.Column("forget_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("source", "key", name="pk_webhook_deliveries"),
    )
    op.create_index("ix_webhook_deliveries_forget_at", "webhook_deliveries", ["forget_at"])


def downgrade() -> None:
    op.drop_table("webhook_deliveries")
