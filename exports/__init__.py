"""Datasets as files: typed, sorted by key, complete or absent, in a folder or an object store."""
