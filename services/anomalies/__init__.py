"""Compares a run with those of its source before. See decision 0022."""
