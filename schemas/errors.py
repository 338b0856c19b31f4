"""Why a record is rejected: a stable reason code per field, and the exception that carries them."""

import msgspec


class FieldProblem(msgspec.Struct, frozen=True):
    """One field's error. `code` is stable and fit for grouping; `message` is for people and may change."""

    field: str
    code: str
    message: str


class InvalidField(ValueError):
    """Raised by a field type's `normalize` for a value that has no normal form."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


class InvalidRecord(Exception):
    """The record itself is wrong: it goes to `failures`, its neighbours go on. Never retried as it is.

    `reason` is the stable code by which failures are grouped; `problems` lists every field's error.
    """

    def __init__(self, reason: str, message: str, problems: tuple[FieldProblem, ...] = ()) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message
        self.problems = problems


class BrokenDataset(Exception):
    """A file of `schemas/datasets/` declares no dataset; the message names it, the line and what is wrong there."""


HOSTILE = (ValueError, ArithmeticError, RecursionError)
"""Exceptions that hostile input can make a decoder or a field raise: InvalidField, UnicodeError and the limit on digits
of an integer are ValueErrors; OverflowError and decimal's signals are ArithmeticErrors; deep nesting is a
RecursionError."""
