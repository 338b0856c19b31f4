"""Faust agents: raw records in, normalized records and failures out.

Nothing is acknowledged before the broker has confirmed what came out of it.
"""
