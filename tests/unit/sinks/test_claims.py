from sinks.postgres.claims import Claim, judge


def claim(ordinal: int, key: str, wanted: str, owned: str | None = None, holder: str | None = None) -> Claim:
    return Claim(ordinal, key, (wanted,), (owned,), (holder,))


def test_the_earlier_of_two_claimants_gets_a_free_value() -> None:
    judgement = judge([claim(0, "A", "x"), claim(1, "B", "x")])
    assert judgement.rounds == ((0,),)
    assert judgement.lost == {1: (0, "A")}


def test_a_chain_is_written_in_as_many_rounds_as_it_has_links() -> None:
    chain = [claim(0, "A", "z", "x"), claim(1, "B", "x", "y", "A"), claim(2, "C", "y", None, "B")]
    assert judge(chain).rounds == ((0,), (1,), (2,))


def test_a_value_is_not_free_before_its_holder_has_given_it_up() -> None:
    judgement = judge([claim(0, "B", "x", "y", "A"), claim(1, "A", "z", "x")])
    assert judgement.lost == {0: (0, "A")}
    assert judgement.rounds == ((1,),)


def test_a_swap_fails_for_both() -> None:
    judgement = judge([claim(0, "A", "y", "x", "B"), claim(1, "B", "x", "y", "A")])
    assert judgement.lost == {0: (0, "B"), 1: (0, "A")}


def test_keeping_ones_own_value_is_no_conflict() -> None:
    assert judge([claim(0, "A", "x", "x", "A")]).rounds == ((0,),)
