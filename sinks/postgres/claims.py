"""Decides, in memory and before anything is written, who of all that want a unique value (an e-mail address) gets it.

Guaranteed: records are taken together or not at all, as a table that is consistent afterwards allows. A value can be
had if nobody has it or its holder moves to another one at the same time, so chains and swaps of any length go through;
of two that want one value the earlier arrival gets it; a holder that stays keeps what it has.
"""

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

Lost = tuple[int, str]
"""The reason why a claim was lost: the field's position, and the key that has its value or gets it."""


@dataclass(frozen=True)
class Claim:
    """A record, the newest of its key, that wants unique values; `holders` are the keys that have them now."""

    ordinal: int
    key: str
    wanted: tuple[str | None, ...]
    holders: tuple[str | None, ...]

    def places(self) -> Iterator[tuple[int, str]]:
        """The values that it wants: (field's position, value)."""
        return ((field, value) for field, value in enumerate(self.wanted) if value is not None)

    def blockers(self) -> Iterator[Lost]:
        """Other keys that have to give up what it wants."""
        return ((field, key) for field, key in enumerate(self.holders) if key is not None and key != self.key)


def judge(claims: Sequence[Claim]) -> dict[int, Lost]:
    """Of claims in order of arrival, one per key, those that lose, by ordinal; the others go in at once. Pure.

    None loses that could be added to the winners. What a claim is lost for is what it really waits for: as long as
    that key keeps its row and its claim, the claim cannot be had.
    """
    by_key = {claim.key: claim for claim in claims}
    waiting: defaultdict[str, list[tuple[str, int]]] = defaultdict(list)
    for claim in claims:
        for field, holder in claim.blockers():
            waiting[holder].append((claim.key, field))
    lost: dict[str, Lost] = {}

    def lose(key: str, reason: Lost) -> None:
        """Let this key lose, and with it all that want what it keeps now."""
        unseen = [(key, reason)]
        while unseen:
            key, reason = unseen.pop()
            if key not in lost:
                lost[key] = reason
                unseen += [(follower, (field, key)) for follower, field in waiting[key]]

    for claim in claims:
        for field, holder in claim.blockers():
            if holder not in by_key or by_key[holder].wanted[field] == claim.wanted[field]:
                lose(claim.key, (field, holder))
    taken: dict[tuple[int, str], str] = {}
    chosen: set[str] = set()
    for claim in claims:
        if claim.key in lost or claim.key in chosen:
            continue
        together = _with_all_that_must_move(claim, by_key, chosen)
        for one in together:
            for place in one.places():
                if place in taken:
                    lose(one.key, (place[0], taken[place]))
        if claim.key in lost:
            continue
        wanted: dict[tuple[int, str], str] = {}
        rivals = [
            (place, one.key)
            for one in together
            for place in one.places()
            if wanted.setdefault(place, one.key) != one.key
        ]
        if rivals:
            own = [(place[0], key) for place, key in rivals if wanted[place] == claim.key]
            lose(claim.key, own[0] if own else next(claim.blockers()))
            continue
        taken |= wanted
        chosen.update(one.key for one in together)
    return {claim.ordinal: lost[claim.key] for claim in claims if claim.key in lost}


def _with_all_that_must_move(claim: Claim, by_key: Mapping[str, Claim], moving: Collection[str]) -> list[Claim]:
    """The claim first, then those of its holders, of theirs, and so on, but for keys that are moving already."""
    together = {claim.key: claim}
    unseen = [claim]
    while unseen:
        for _, holder in unseen.pop().blockers():
            if holder not in together and holder not in moving:
                together[holder] = by_key[holder]
                unseen.append(by_key[holder])
    return list(together.values())
