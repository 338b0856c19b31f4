from itertools import combinations

from hypothesis import given
from hypothesis import strategies as st

from sinks.postgres.claims import Claim, judge


def claim(ordinal: int, key: str, wanted: str, holder: str | None = None) -> Claim:
    return Claim(ordinal, key, (wanted,), (holder,))


def test_the_earlier_of_two_claimants_gets_a_free_value() -> None:
    assert judge([claim(0, "A", "x"), claim(1, "B", "x")]) == {1: (0, "A")}


def test_a_chain_goes_through_whatever_the_order_of_its_links() -> None:
    chain = [("A", "z", None), ("B", "x", "A"), ("C", "y", "B")]
    for order in ((0, 1, 2), (2, 1, 0), (1, 2, 0)):
        assert judge([claim(n, *chain[link]) for n, link in enumerate(order)]) == {}


def test_a_chain_stands_still_behind_a_holder_that_stays() -> None:
    assert judge([claim(0, "A", "z", "Z"), claim(1, "B", "x", "A")]) == {0: (0, "Z"), 1: (0, "A")}


def test_a_swap_goes_through_and_so_does_a_ring() -> None:
    assert judge([claim(0, "A", "y", "B"), claim(1, "B", "x", "A")]) == {}
    assert judge([claim(0, "A", "y", "B"), claim(1, "B", "z", "C"), claim(2, "C", "x", "A")]) == {}


def test_keeping_ones_own_value_is_no_conflict_and_keeps_others_off() -> None:
    assert judge([claim(0, "A", "x", "A"), claim(1, "B", "x", "A")]) == {1: (0, "A")}


def test_what_a_claimant_does_not_get_in_the_end_is_free_for_the_next() -> None:
    both = Claim(0, "A", ("x", "taken"), (None, "Z"))
    assert judge([both, Claim(1, "B", ("x", "free"), (None, None))]) == {0: (1, "Z")}


keys = st.permutations("ABCDE")
rows = st.tuples(keys, st.integers(0, 5)).map(lambda drawn: dict(zip("vwxyz"[: drawn[1]], drawn[0], strict=False)))
wishes = st.lists(st.sampled_from("vwxyzab"), min_size=5, max_size=5)


@given(st.tuples(rows, rows), keys, st.tuples(wishes, wishes), st.integers(1, 5), st.integers(1, 2))
def test_no_claim_loses_that_a_consistent_table_allows(
    tables: tuple[dict[str, str], dict[str, str]],
    order: list[str],
    wanted: tuple[list[str], list[str]],
    count: int,
    fields: int,
) -> None:
    holders, claims = tables[:fields], []
    for n in range(count):
        values = tuple(wanted[field][n] for field in range(fields))
        claims.append(Claim(n, order[n], values, tuple(held.get(v) for held, v in zip(holders, values, strict=True))))
    lost = judge(claims)
    winners = [one for one in claims if one.ordinal not in lost]

    def is_consistent(chosen: list[Claim]) -> bool:
        moving = {one.key for one in chosen}
        for field, held in enumerate(holders):
            values = [v for v, key in held.items() if key not in moving] + [one.wanted[field] for one in chosen]
            if len(values) > len(set(values)):
                return False
        return True

    assert is_consistent(winners)
    losers = [one for one in claims if one.ordinal in lost]
    for size in range(1, len(losers) + 1):
        assert not any(is_consistent([*winners, *more]) for more in combinations(losers, size))
