"""Failures as they lie in Postgres: asked, changed, queued for a replay, settled. SQL only: sending is elsewhere."""
