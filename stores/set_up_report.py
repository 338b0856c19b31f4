"""The answer of a store's set-up."""

from dataclasses import dataclass, field


@dataclass
class SetUpReport:
    """The changes that set-up made, and those that it did not make; lines for people that name dataset and field."""

    changes: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    """Differences from the declaration that the store keeps, since everything has its place there all the same."""
    misfits: dict[str, str] = field(default_factory=dict)
    """Reason and way out, by name of a dataset that the store cannot hold as declared."""
