"""The error of the local stack, told to a person: the cause, the evidence, the way out."""

from runtime.errors import Explained


class StackError(Explained):
    """The stack can't do what was asked.

    `cause` is one sentence that names the thing and the value; `log_lines` are the last lines of the log that shows it;
    `remedy` says what to do.
    """

    def __init__(self, cause: str, *, remedy: str = "", log_lines: list[str] | None = None) -> None:
        super().__init__(cause)
        self.cause = cause
        self.remedy = remedy
        self.log_lines = log_lines or []

    def __str__(self) -> str:
        parts = [self.cause, *(f"  | {line}" for line in self.log_lines)]
        if self.remedy:
            parts.append(self.remedy)
        return "\n".join(parts)
