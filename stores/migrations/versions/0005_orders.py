"""Orders."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "orders",
        sa.Column("order_id", sa.VARCHAR(50), nullable=False),
        sa.Column("customer_id", sa.VARCHAR(50), nullable=False),
        sa.Column("product", sa.VARCHAR(200), nullable=False),
        sa.Column("quantity", sa.Integer, nullable=False),
        sa.Column("price", sa.Numeric(12, 2), nullable=False),
        sa.Column("order_date", sa.Date, nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False, server_default=sa.func.now()),
        sa.Column("updated_at", sa.DateTime(timezone=True)),
        sa.Column("search_text", sa.Text, nullable=False),
        sa.Column("version", sa.BigInteger, nullable=False),
        sa.Column("raw_partition", sa.Integer, nullable=False),
        sa.Column("raw_offset", sa.BigInteger, nullable=False),
        sa.Column("raw_timestamp", sa.BigInteger, nullable=False),
        sa.Column("raw_moves", sa.Integer, nullable=False, server_default="0"),
        sa.PrimaryKeyConstraint("order_id", name="pk_orders"),
    )
    op.create_index("ix_orders_raw_moves", "orders", ["raw_moves"], postgresql_where=sa.text("raw_moves > 0"))
    for column in ("customer_id", "product", "order_date"):
        op.create_index(f"ix_orders_{column}", "orders", [column])


def downgrade() -> None:
    op.drop_table("orders")
