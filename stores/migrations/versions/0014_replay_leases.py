"""Replay jobs are held by a lease; what ended jobs have queued is open again."""

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("failure_replays", sa.Column("attended_by", sa.Text))
    op.add_column("failure_replays", sa.Column("attended_until", sa.DateTime(timezone=True)))
    op.execute("""
        UPDATE ingest_failures f SET state = 'open', updated_at = now() FROM failure_replays j
        WHERE f.replay_job = j.id AND f.state = 'queued' AND j.state IN ('done', 'cancelled')""")


def downgrade() -> None:
    op.execute("UPDATE failure_replays SET state = 'cancelled' WHERE state IN ('interrupted', 'failed')")
    op.drop_column("failure_replays", "attended_until")
    op.drop_column("failure_replays", "attended_by")
