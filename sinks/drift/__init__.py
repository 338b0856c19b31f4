"""Notices that a source gains, loses or retypes a field, where the raw records land. See decision 0020."""
