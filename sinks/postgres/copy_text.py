"""Lines for COPY in its text format, built from JSON values without parsing numbers or dates: Postgres does that."""

from collections.abc import Sequence

NULL = r"\N"

_ESCAPES = str.maketrans({"\\": r"\\", "\t": r"\t", "\n": r"\n", "\r": r"\r"})


def copy_row(values: Sequence[str | int | None]) -> str:
    """The values as one line without its end, tab separated, escaped as COPY wants it. Pure."""
    texts = [NULL if value is None else value if isinstance(value, str) else str(value) for value in values]
    line = "\t".join(texts)
    # Normalized text has neither tabs nor line ends, and rarely a backslash other than NULL's: look once at the line.
    if line.count("\t") == len(texts) - 1 and "\n" not in line and "\r" not in line:
        nulls = values.count(None)
        if line.count("\\") == nulls:
            return line
    return "\t".join(
        [NULL if value is None else text.translate(_ESCAPES) for value, text in zip(values, texts, strict=True)]
    )
