"""Scopes: the rights that callers of the API have or have not, by a key or by what a token says."""

from enum import StrEnum


class Scope(StrEnum):
    """A right. None includes another one."""

    READ = "read"
    """Read records and the state of the pipeline."""
    WRITE = "write"
    """Create, change and delete records."""
    OPERATE = "operate"
    """Start runs, and deal with failures and jobs."""
    PERSONAL = "personal"
    """See personal data where it is masked for others."""


SCOPES = frozenset(Scope)

OWN_WORDS = {f"headrace:{scope}": frozenset({scope}) for scope in Scope}
"""Words of a token's claim, where no others are set."""


def scopes_by_word(setting: str) -> dict[str, frozenset[Scope]]:
    """The scopes that each word of a token's claim stands for: `viewer=read,admin=read+write`. Pure.

    Raises ValueError for another form, or a scope that there is not.
    """
    found: dict[str, frozenset[Scope]] = {}
    for pair in filter(None, (part.strip() for part in setting.split(","))):
        word, equals, names = pair.rpartition("=")
        scopes = {name.strip() for name in names.split("+")}
        if not (equals and word.strip() and scopes <= SCOPES):
            known = ", ".join(Scope)
            raise ValueError(f"{pair!r}: expected WORD=SCOPE+SCOPE, separated by commas; scopes are {known}")
        found[word.strip()] = frozenset(map(Scope, scopes))
    return found or OWN_WORDS
