"""Proves that nothing is lost: counts by coverage, compares the stores key by key, repairs."""
