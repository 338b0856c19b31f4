"""Reads stored raw records again, under today's rules and the same coordinates. See decision 0040."""
