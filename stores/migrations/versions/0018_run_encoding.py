"""Which encoding a run's text was read in, with how sure that was."""

import sqlalchemy as sa
from alembic import op

revision = "0018"
down_revision = "0017"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("etl_runs", sa.Column("encoding", sa.Text))


def downgrade() -> None:
    op.drop_column("etl_runs", "encoding")
