"""Which runs look unlike those before them, and that chance, growth and odd values make no false alarm."""

import json
import math
import random
import statistics
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.kafka.offset_ranges import OffsetRanges
from services.runs.anomalies import FEWEST_RUNS, MOST, Anomaly, judge, robust_z, spread
from services.runs.profile import MAX_FIELDS, Features, coordinates_to_sample, profile, quantile

moderate = st.floats(-1e9, 1e9)


@given(st.lists(moderate, min_size=1, max_size=30), moderate, st.floats(0.1, 1e6))
def test_the_score_does_not_depend_on_order_and_grows_with_the_distance(
    before: list[float], value: float, least: float
) -> None:
    score = robust_z(value, before, least)
    assert abs(score) <= MOST
    assert score == robust_z(value, list(reversed(before)), least)
    middle = statistics.median(before)
    assert robust_z(middle, before, least) == 0
    assert abs(robust_z(middle + 2 * (value - middle), before, least)) >= abs(score) * (1 - 1e-9)


@given(st.lists(moderate, min_size=3, max_size=30), st.integers(-1000, 1000))
def test_a_shift_of_all_values_changes_no_spread(values: list[float], shift: int) -> None:
    assert spread([value + shift for value in values]) == pytest.approx(spread(values), abs=1e-3)


@given(st.lists(st.floats(0, 100), min_size=11, max_size=30), st.floats(1e6, 1e9))
def test_an_odd_run_among_many_hides_no_other(values: list[float], odd: float) -> None:
    assert spread([*values, odd]) <= 1.4826 * 100
    assert statistics.median([*values, odd]) <= 100


def test_the_spread_of_normal_data_is_its_standard_deviation() -> None:
    chance = random.Random(1)
    assert spread([chance.gauss(10, 3) for _ in range(20_000)]) == pytest.approx(3, rel=0.05)


@given(st.lists(moderate, min_size=1, max_size=50), st.floats(0, 1))
def test_a_quantile_lies_within_the_values_and_half_is_the_median(values: list[float], share: float) -> None:
    ordered = sorted(values)
    slack = 1e-6 * max(1.0, abs(ordered[0]), abs(ordered[-1]))
    assert ordered[0] - slack <= quantile(ordered, share) <= ordered[-1] + slack
    assert quantile(ordered, 0.5) == pytest.approx(statistics.median(ordered), abs=slack)


def run(chance: random.Random, records: int = 1000, nulls: float = 0.1, mean: float = 50, failed: int = 3) -> Features:
    return profile(records, failed, [encoded(chance, nulls, mean) for _ in range(min(records, 1000))])


def encoded(chance: random.Random, nulls: float, mean: float) -> bytes:
    price: Any = None if chance.random() < nulls else f"{chance.gauss(mean, 10):.2f}"
    return json.dumps({"id": f"P{chance.random()}", "price": price, "colour": "red"}).encode()


def usual_runs(count: int = 10, **more: Any) -> list[Features]:
    chance = random.Random(7)
    return [run(chance, records=1000 + chance.randrange(-30, 30), **more) for _ in range(count)]


def found(features: Features, before: Sequence[Features], sampled: int = 1000) -> dict[str, Anomaly]:
    return {f"{one.feature}:{one.field}": one for one in judge(features, sampled, before)}


def test_a_run_like_the_others_is_no_anomaly_whatever_chance_does() -> None:
    before = usual_runs()
    for seed in range(50):
        chance = random.Random(seed)
        assert found(run(chance, records=1000 + chance.randrange(-30, 30)), before) == {}


def test_half_the_records_is_an_anomaly_of_the_count_alone() -> None:
    [anomaly] = judge(run(random.Random(1), records=500), 500, usual_runs())
    assert (anomaly.feature, anomaly.field, anomaly.value, anomaly.runs) == ("records", None, 500, 10)
    assert anomaly.score < -3.5
    assert str(anomaly).startswith("records: 500, usually 994 (score -15.7 ")


def test_more_failures_more_nulls_and_other_numbers_are_each_an_anomaly() -> None:
    assert found(run(random.Random(1), failed=80), usual_runs()).keys() == {"failure_rate:None"}
    assert found(run(random.Random(1), nulls=0.3), usual_runs()).keys() == {"null_rate:price"}
    assert found(run(random.Random(1), mean=70), usual_runs()).keys() == {"low:price", "median:price", "high:price"}


def test_numbers_that_become_words_are_an_anomaly_although_csv_files_hold_only_text() -> None:
    words = profile(1000, 0, [json.dumps({"id": "P", "price": "cheap", "colour": "red"}).encode()] * 1000)
    assert "numeric_rate:price" in found(words, usual_runs())


def test_a_field_that_is_gone_counts_as_null_throughout() -> None:
    without = profile(1000, 3, [b'{"id":"P","colour":"red"}'] * 1000)
    assert found(without, usual_runs())["null_rate:price"].value == 1.0


def test_nothing_is_judged_before_there_are_enough_runs() -> None:
    strange = run(random.Random(1), records=1, failed=1)
    assert judge(strange, 1, usual_runs(FEWEST_RUNS - 1)) == []
    assert judge(strange, 1, usual_runs(FEWEST_RUNS)) != []


def test_equal_runs_leave_room_for_a_small_difference() -> None:
    same = [profile(5200, 0, [b'{"n":1}'] * 1000) for _ in range(10)]
    assert found(profile(5230, 0, [b'{"n":1}'] * 1000), same) == {}
    assert found(profile(6000, 0, [b'{"n":1}'] * 1000), same).keys() == {"records:None"}


def test_one_null_in_a_small_run_is_chance() -> None:
    same = [profile(20, 0, [b'{"n":"x"}'] * 20) for _ in range(10)]
    assert found(profile(20, 1, [*[b'{"n":"x"}'] * 19, b'{"n":null}']), same, sampled=20) == {}


def test_a_run_of_which_nothing_has_landed_is_judged_by_its_counts_alone() -> None:
    assert found(profile(1000, 3, []), usual_runs(), sampled=0) == {}
    assert found(profile(100, 30, []), usual_runs(), sampled=0).keys() == {"records:None", "failure_rate:None"}


def test_values_that_are_no_objects_and_no_numbers_are_left_out() -> None:
    values = [b"[1]", b"{", b'{"n":"1e5"}', b'{"n":true}', b'{"n":"NaN"}', b'{"n":"1_0"}', b'{"n":1e999}', b'{"n":""}']
    features = profile(8, 0, values)
    assert features["numeric_rate:n"] < 0.5
    assert not any(name.startswith("median") for name in features)


@given(st.lists(st.binary(max_size=50) | st.dictionaries(st.text(), st.floats() | st.text()).map(repr).map(str.encode)))
def test_a_profile_of_any_bytes_raises_nothing_and_fits_into_json(payloads: list[bytes]) -> None:
    features = profile(len(payloads), 0, payloads)
    assert all(math.isfinite(value) for value in features.values())
    judge(features, len(payloads), [features] * 10)


def test_only_so_many_fields_of_a_record_are_profiled() -> None:
    wide = json.dumps({f"f{number}": number for number in range(1000)}).encode()
    fields = {name.partition(":")[2] for name in profile(1, 0, [wide]) if ":" in name}
    assert len(fields) == MAX_FIELDS


@given(
    st.lists(st.lists(st.tuples(st.integers(0, 500), st.integers(1, 100)), max_size=4), max_size=3), st.integers(1, 200)
)
def test_a_sample_is_bounded_in_the_run_and_never_takes_a_record_twice(spans: Any, most: int) -> None:
    wanted = {
        ("t", number): OffsetRanges((start, start + length) for start, length in ranges)
        for number, ranges in enumerate(spans)
    }
    places = coordinates_to_sample(wanted, most)
    total = sum(len(ranges) for ranges in wanted.values())
    assert len(places) == len(set(places)) == min(total, most)
    assert all(offset in wanted[topic, partition] for topic, partition, offset in places)
