"""Alarms without Prometheus: what the rules look at, who is told, and the loop in the role `monitor`."""
