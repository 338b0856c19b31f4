"""Users, and the outbox that tells the followers of rows which the API writes."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "users",
        sa.Column("name", sa.VARCHAR(200), nullable=False),
        sa.Column("email", sa.VARCHAR(255), nullable=False),
        sa.Column("role", sa.VARCHAR(50), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False, server_default=sa.func.now()),
        sa.Column("updated_at", sa.DateTime(timezone=True)),
        sa.Column("search_text", sa.Text, nullable=False),
        sa.Column("version", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("email", name="pk_users"),
    )
    op.create_table(
        "outbox",
        sa.Column("dataset", sa.Text, nullable=False),
        sa.Column("key", sa.Text, nullable=False),
        sa.Column("version", sa.BigInteger, nullable=False),
        sa.Column("event", sa.LargeBinary, nullable=False),
        sa.Column("written_at", sa.DateTime(timezone=True), nullable=False, server_default=sa.func.now()),
        sa.PrimaryKeyConstraint("dataset", "key", name="pk_outbox"),
        sa.UniqueConstraint("version", name="uq_outbox_version"),
    )


def downgrade() -> None:
    op.drop_table("outbox")
    op.drop_table("users")
