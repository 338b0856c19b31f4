"""Failures as they lie in Postgres: asked, changed, queued for a replay, sent again, settled."""
