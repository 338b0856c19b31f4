"""Every SQL statement of the API, one file per question."""
