"""The sink that holds the truth: merges clean records by order of arrival, books every raw offset, tells of changes."""
