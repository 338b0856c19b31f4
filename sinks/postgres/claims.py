"""Who gets a unique value (an e-mail address): decided in order of arrival, in memory, before anything is written.

Guaranteed: of the newest records per key in a batch, each is judged as if they were written one by one in order of
arrival. A value is free if nobody has it or its holder gave it up earlier; otherwise the later claimant loses. A chain
(A gives up x, then B takes x and gives up y, then C takes y) goes through; a swap does not, because the first of the
two wants what is still taken. Not seen: a value that a key held only between two records of the same batch.
"""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Claim:
    """A record that wants unique values: `owned` are those of its row (None: no row), `holders` who has the wanted."""

    ordinal: int
    key: str
    wanted: tuple[str | None, ...]
    owned: tuple[str | None, ...]
    holders: tuple[str | None, ...]


@dataclass(frozen=True)
class Judgement:
    """`rounds` are ordinals to be written one round after the other; `lost`: ordinal → (field's position, holder)."""

    rounds: tuple[tuple[int, ...], ...]
    lost: dict[int, tuple[int, str]]


def judge(claims: Sequence[Claim]) -> Judgement:
    """Judge claims given in order of arrival. Pure."""
    holder_of: dict[tuple[int, str], str] = {}
    for claim in claims:
        for field, (value, holder) in enumerate(zip(claim.wanted, claim.holders, strict=True)):
            if value is not None and holder is not None:
                holder_of[field, value] = holder
        for field, value in enumerate(claim.owned):
            if value is not None:
                holder_of[field, value] = claim.key
    released_in: dict[tuple[int, str], int] = {}
    rounds: list[list[int]] = []
    lost: dict[int, tuple[int, str]] = {}
    for claim in claims:
        wanted = [(field, value) for field, value in enumerate(claim.wanted) if value is not None]
        taken = [(field, holder_of[field, value]) for field, value in wanted
                 if holder_of.get((field, value), claim.key) != claim.key]  # fmt: skip
        if taken:
            lost[claim.ordinal] = taken[0]
            continue
        # The unique index checks each row at once, so a taker is written a round after the one who gave the value up.
        number = max((released_in[place] + 1 for place in wanted if place in released_in), default=0)
        while len(rounds) <= number:
            rounds.append([])
        rounds[number].append(claim.ordinal)
        for field, value in enumerate(claim.owned):
            if value is not None and claim.wanted[field] != value:
                del holder_of[field, value]
                released_in[field, value] = number
        for place in wanted:
            holder_of[place] = claim.key
    return Judgement(tuple(tuple(ordinals) for ordinals in rounds), lost)
