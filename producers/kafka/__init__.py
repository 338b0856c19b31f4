"""The kind `kafka`: records of a foreign topic."""
