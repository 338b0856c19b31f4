"""Lag, judged from outside the consumers: what the broker says they have committed against what it holds."""
