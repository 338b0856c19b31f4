"""The tables of `headrace lag`: they fit a small terminal, with the worst on top."""

import io

import pytest
from rich.console import Console, Group

from commands.lag_tables import duration, group_tables, system_tables
from monitoring.samples import GroupSample, PartitionSample, Sample
from monitoring.view import SystemLag, view_of
from monitoring.window import Window

AT = 1_700_000_000.0


def view_with(groups: int, topics: int, *, lag: int = 0, others: int = 0) -> SystemLag:
    def group(number: int) -> GroupSample:
        behind = lag if number == groups - 1 else 0
        rows = [PartitionSample(n, 1_000_000 - behind, 0, 1_000_000, 1_000_000) for n in range(4)]
        return GroupSample("Stable", {f"a-rather-long-namespace.topic-{n}": rows for n in range(topics)})

    sample = {f"a-rather-long-namespace.sink-number-{number}": group(number) for number in range(groups)}
    other = GroupSample("Empty", {"t": [PartitionSample(0, 1, 0, 5, 5)]})
    sample |= {f"console-{number}": other for number in range(others)}
    samples = [Sample(AT + at, sample) for at in (0.0, 5.0)]
    view = view_of(Window(samples), [name for name in sample if "sink" in name], now=AT + 5)
    assert view is not None
    return view


def printed(*parts: object, width: int = 80, height: int = 24) -> list[str]:
    file = io.StringIO()
    Console(file=file, width=width, height=height).print(Group(*parts))  # type: ignore[arg-type]
    return file.getvalue().rstrip("\n").split("\n")


def test_many_groups_fit_eighty_columns_and_twenty_four_lines_with_the_worst_on_top() -> None:
    view = view_with(6, 5, lag=12_345, others=3)
    lines = printed(*system_tables(view, every=False, order="verdict", width=80, height=24))
    assert len(lines) < 24, "one is the prompt's"
    assert all(len(line) <= 80 for line in lines)
    assert "246,900 wait" in lines[0]
    assert "sink-number-5" not in lines[2], "the head comes before the rows"
    assert all("number-5" in line and "49,380" in line for line in lines[3:8])
    assert any("more that are OK" in line for line in lines)
    assert "3 groups of others: 12 wait, worst NO CONSUMER (--all)" in lines[-1]


def test_into_a_pipe_goes_every_line_and_every_name_in_full() -> None:
    lines = printed(*system_tables(view_with(6, 5), every=False, order="name", width=240, height=None), width=240)
    assert sum("a-rather-long-namespace.sink-number-" in line for line in lines) == 30


def test_all_shows_the_groups_of_others() -> None:
    text = "\n".join(printed(*system_tables(view_with(1, 1, others=2), every=True, order="lag", width=80, height=24)))
    assert "console-0" in text
    assert "--all" not in text


def test_an_upper_bound_is_marked_as_one() -> None:
    parts = system_tables(view_with(1, 1, lag=3), every=False, order="age", width=80, height=24)
    assert any("≤" in line for line in printed(*parts))


def test_a_group_is_shown_by_its_partitions() -> None:
    view = view_with(1, 2, lag=70)
    lines = printed(*group_tables(view.groups[0], view, width=100), width=100)
    assert "(stable)" in lines[0]
    assert sum("999,930" in line for line in lines) == 8
    assert "MEMBER" in lines[2]
    narrow = printed(*group_tables(view.groups[0], view, width=80))
    assert all(len(line) <= 80 for line in narrow)
    assert "MEMBER" not in narrow[2]
    assert "NO CONSUMER" not in "\n".join(lines)


@pytest.mark.parametrize(
    ("seconds", "told"),
    [(None, "-"), (0.0, "0 s"), (0.4, "0.4 s"), (94.0, "94 s"), (130.0, "2 min"), (7_300.0, "2 h"), (200_000.0, "2 d")],
)
def test_durations_are_told_as_people_do(seconds: float | None, told: str) -> None:
    assert duration(seconds) == told


ODD = "\x1b]0;mine\x07[red][/x]"


def test_names_that_others_gave_are_shown_and_do_nothing() -> None:
    rows = [PartitionSample(0, 1, 3, 9, 9, member=f"{ODD} 10.0.0.1")]
    view = view_of(Window([Sample(AT, {ODD: GroupSample("Empty", {"t": rows}, ["gone"])})]), (), now=AT)
    assert view is not None
    tables = [system_tables(view, every=True, order="verdict", width=240, height=None)]
    tables.append(group_tables(view.groups[0], view, width=240))
    for parts in tables:
        lines = printed(*parts, width=240)
        assert "\x1b" not in "".join(lines)
        assert sum(r"\x1b]0;mine\x07[red][/x]" in line for line in lines) >= 3
