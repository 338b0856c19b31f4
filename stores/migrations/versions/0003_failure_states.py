"""Failures become something to work on: their state, replays of them, and who did what."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_PLACE = ["replayed_topic", "replayed_partition", "replayed_offset"]


def upgrade() -> None:
    for column in (
        sa.Column("state", sa.Text, nullable=False, server_default="open"),
        sa.Column("attempts", sa.Integer, nullable=False, server_default="0"),
        sa.Column("replay_of", sa.BigInteger),
        sa.Column("failed_again_as", sa.BigInteger),
        sa.Column("replay_job", sa.Integer),
        sa.Column("edited_payload", sa.LargeBinary),
        sa.Column("raw_headers", JSONB),
        sa.Column("replayed_key", sa.Text),
        sa.Column("replayed_topic", sa.Text),
        sa.Column("replayed_partition", sa.Integer),
        sa.Column("replayed_offset", sa.BigInteger),
        sa.Column("updated_at", sa.DateTime(timezone=True)),
    ):
        op.add_column("ingest_failures", column)
    op.create_index("ix_ingest_failures_state_id", "ingest_failures", ["state", "id"])
    op.create_index("ix_ingest_failures_replayed", "ingest_failures", _PLACE)
    op.create_table(
        "failure_replays",
        sa.Column("id", sa.Integer, sa.Identity(), nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("selection", JSONB, nullable=False),
        sa.Column("rate", sa.Double),
        sa.Column("forced", sa.Boolean, nullable=False),
        sa.Column("total", sa.BigInteger, nullable=False),
        sa.Column("sent", sa.BigInteger, nullable=False, server_default="0"),
        sa.Column("skipped", sa.BigInteger, nullable=False, server_default="0"),
        sa.Column("who", sa.Text, nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("ended_at", sa.DateTime(timezone=True)),
        sa.PrimaryKeyConstraint("id", name="pk_failure_replays"),
    )
    op.create_table(
        "failure_actions",
        sa.Column("id", sa.BigInteger, sa.Identity(), nullable=False),
        sa.Column("failure_id", sa.BigInteger),
        sa.Column("job_id", sa.Integer),
        sa.Column("action", sa.Text, nullable=False),
        sa.Column("who", sa.Text, nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False, server_default=sa.func.now()),
        sa.Column("note", sa.Text),
        sa.Column("before", sa.LargeBinary),
        sa.Column("after", sa.LargeBinary),
        sa.PrimaryKeyConstraint("id", name="pk_failure_actions"),
    )
    op.create_index("ix_failure_actions_failure_id", "failure_actions", ["failure_id"])


def downgrade() -> None:
    op.drop_table("failure_actions")
    op.drop_table("failure_replays")
    # Their indexes go with them.
    for name in (
        *("state", "attempts", "replay_of", "failed_again_as", "replay_job", "edited_payload", "raw_headers"),
        *("replayed_key", *_PLACE, "updated_at"),
    ):
        op.drop_column("ingest_failures", name)
