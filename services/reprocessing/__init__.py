"""Reads stored raw records again, by today's rules and under the same coordinates. See decision 0040."""
