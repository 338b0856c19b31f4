"""Fetching over HTTP within bounds: retries, rate limits, conditions, decoded bodies."""
