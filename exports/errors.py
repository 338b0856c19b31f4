"""What keeps an export from being made, told to a person."""


class ExportError(Exception):
    """The export cannot be made; nothing of it can be seen at its destination. The message says what to do."""
