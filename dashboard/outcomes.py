"""The outcomes of records, as a bar with its legend."""

from collections.abc import Mapping

from dashboard.elements import tag, text
from dashboard.words import number

OUTCOMES = ("inserted", "updated", "unchanged", "superseded", "deleted", "held", "failed", "expired")
"""In the order in which a bar shows them."""


def outcome_bar(outcomes: Mapping[str, int] | None) -> None:
    """A bar in the shares of the outcomes; words say the same to who does not see it."""
    counts = {name: (outcomes or {}).get(name, 0) for name in OUTCOMES}
    total = sum(counts.values())
    if not total:
        return
    said = ", ".join(f"{number(count)} {name}" for name, count in counts.items() if count)
    with tag("div", "bar", role="img", aria_label=said, title=said):
        for name, count in counts.items():
            if count:
                # What is there is seen, however small its share.
                tag("i", f"c-{name}").style(f"flex: {count / total:.5f} 1 0; min-width: 3px")


def legend(outcomes: Mapping[str, int] | None) -> None:
    """The outcomes that occur, with their colours and numbers."""
    with tag("ul", "legend"):
        for name in OUTCOMES:
            if count := (outcomes or {}).get(name, 0):
                with tag("li"):
                    tag("i", f"c-{name}", aria_hidden="true")
                    text("span", f"{number(count)} {name}")
