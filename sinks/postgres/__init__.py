"""The sink that holds the truth: merges records in order of arrival, covers every raw offset, tells of changes."""
