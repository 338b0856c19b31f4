"""The lag in tables that fit a terminal of 80 columns and 24 lines."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from rich.table import Table
from rich.text import Text

from monitoring.lag import PartitionLag
from monitoring.verdicts import SEVERITY, Verdict
from monitoring.view import Figures, GroupView, SystemLag, TopicView, row_of
from runtime.printable import printable

COLORS = {Verdict.OK: "green", Verdict.WARN: "yellow", Verdict.REWIND: "yellow"}
"""All other verdicts are red."""

FIXED_LINES = 5
"""Lines of a terminal that are no rows: two of totals, the head, one of the rest, the prompt."""

NARROW = 100
"""Columns below which long names are cut in their middle."""

LONGEST_NAME = 18

Row = tuple[GroupView, TopicView]

ORDERS: dict[str, Callable[[Row], Any]] = {
    "verdict": lambda row: (-SEVERITY[row[1].verdict], -row[1].waiting, row[0].group, row[1].topic),
    "lag": lambda row: -row[1].waiting,
    "age": lambda row: -(row[1].seconds or 0),
    "in": lambda row: -(row[1].rate_in or 0),
    "out": lambda row: -(row[1].rate_out or 0),
    "drain": lambda row: -(float("inf") if row[1].drain_seconds is None else row[1].drain_seconds),
    "name": lambda row: (row[0].group, row[1].topic),
}


def system_tables(view: SystemLag, *, every: bool, order: str, width: int, height: int | None) -> list[Any]:
    """Totals, a line per group and topic, and what is not shown in a line. `height`: None for as long as it gets."""
    groups = [group for group in view.groups if group.ours or every]
    rows = sorted(((group, topic) for group in groups for topic in group.topics), key=ORDERS[order])
    others = [group for group in view.groups if not group.ours and not every]
    shown, hidden = _that_fit(rows, None if height is None else height - FIXED_LINES - bool(others))
    table = _table("GROUP", "TOPIC")
    for group, topic in shown:
        table.add_row(Text(_cut(printable(group.group), width)), _cut(topic.topic, width), *_cells(topic))
    parts: list[Any] = [*_totals(view), table]
    if hidden:
        parts.append(Text(f"and {hidden} more that are OK, with nothing waiting", style="dim"))
    if others:
        waiting = sum(group.waiting for group in others)
        parts.append(
            Text(f"{len(others)} groups of others: {waiting:,} wait, worst {view.others_verdict} (--all)", style="dim")
        )
    parts += [Text(f"{printable(group.group)}: {group.reason}") for group in groups if group.reason and not group.ours]
    return parts + [Text(remark) for remark in remarks(groups)]


def group_tables(group: GroupView, view: SystemLag, *, width: int) -> list[Any]:
    """A group's totals and a line per partition of each topic, with the member that reads it where there is room."""
    table = _table("TOPIC", "PART", "COMMITTED", "END")
    if width >= NARROW:
        table.add_column("MEMBER", no_wrap=True)
    for topic in group.topics:
        for number, row in enumerate(topic.partitions):
            committed = "-" if row.committed is None else f"{row.committed:,}"
            name = _cut(topic.topic, width) if number == 0 else ""
            members = [Text(printable(row.member or "-"))] if width >= NARROW else []
            table.add_row(name, str(row.partition), committed, f"{row.end:,}", *_cells(row), *members)
    state = f"{printable(group.group)} ({group.state.lower()})"
    return [_line(state, group), Text(_window(view), style="dim"), table, *map(Text, remarks([group]))]


def remarks(groups: Iterable[GroupView]) -> list[str]:
    """Lines on what a number cannot tell: open transactions, expired records, topics that are gone."""
    lines, rows = [], []
    for group in groups:
        name = printable(group.group)
        for topic in group.topics:
            for row in topic.partitions:
                rows.append(row_of(group, topic, row))
                if row.expired:
                    place = f"{topic.topic}/{row.partition}"
                    lines.append(f"{name}: retention took {row.expired:,} offsets of {place} before it read them")
        if group.gone:
            lines.append(f"{name}: has commits of topics that are gone: {', '.join(group.gone)}")
    return held_remarks(rows) + lines


def held_remarks(rows: Iterable[PartitionLag]) -> list[str]:
    """A line for each partition that an open transaction holds, whoever reads it."""
    return [_held_remark(row) for row in {(row.topic, row.partition): row for row in rows if row.held}.values()]


def _held_remark(row: PartitionLag) -> str:
    since = "for a while" if row.held_seconds is None else f"for {row.held_seconds:.0f} s"
    return (
        f"{row.topic}/{row.partition}: {row.held:,} offsets from {row.end:,} on are held by a transaction, open {since}"
        "; they come when its producer ends it, or when the broker aborts it (transaction.timeout.ms)"
    )


def _totals(view: SystemLag) -> list[Text]:
    lines = [_line("All of ours", view), Text(_window(view), style="dim")]
    if view.reason:
        lines.append(Text(view.reason, style=_color(view.verdict)))
    return lines


def _line(name: str, figures: Figures) -> Text:
    told = f"{name}: {_count(figures)} wait"
    if figures.waiting and figures.seconds is not None:
        told += f", the oldest for {duration(figures.seconds)}"
    if figures.rate_in is not None and figures.rate_out is not None:
        told += f"; {_rate(figures.rate_in)}/s in, {_rate(figures.rate_out)}/s out"
    if figures.waiting and figures.drain_seconds is not None:
        told += f"; caught up in {duration(figures.drain_seconds)}"
    return Text.assemble((str(figures.verdict), f"bold {_color(figures.verdict)}"), "  ", told)


def _window(view: SystemLag) -> str:
    if view.monitored:
        return f"judged over the last {duration(view.window_seconds)}"
    return f"the monitor is not running: judged over {duration(view.window_seconds)} only (`headrace status`)"


def _table(*names: str) -> Table:
    table = Table(box=None, padding=(0, 1, 0, 0), header_style="bold")
    for name in names:
        table.add_column(name, justify="left" if name in ("GROUP", "TOPIC") else "right", no_wrap=True)
    for name in ("LAG", "AGE", "IN/S", "OUT/S", "DRAIN"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("VERDICT", no_wrap=True)
    return table


def _cells(figures: Figures) -> list[Text | str]:
    return [
        Text(_count(figures), style="yellow" if figures.waiting else ""),
        "-" if figures.seconds is None else ("~" * (figures.seconds_by == "interpolated")) + duration(figures.seconds),
        _rate(figures.rate_in),
        _rate(figures.rate_out),
        "never" if figures.drain_seconds is None and figures.rate_out is not None else duration(figures.drain_seconds),
        Text(str(figures.verdict), style=_color(figures.verdict)),
    ]


def _count(figures: Figures) -> str:
    return f"{figures.waiting:,}" if figures.exact else f"≤{figures.waiting:,}"


def _rate(rate: float | None) -> str:
    if rate is None:
        return "-"
    return f"{rate:,.0f}" if rate >= 10 or rate == int(rate) else f"{rate:.1f}"


def duration(seconds: float | None) -> str:
    """Seconds as people say them: 0.4 s, 12 s, 3 min, 5 h, 2 d. Pure."""
    if seconds is None:
        return "-"
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:,.0f} {unit}"
    return f"{seconds:.0f} s" if seconds >= 10 or seconds == int(seconds) else f"{seconds:.1f} s"


def _that_fit(rows: Sequence[Row], lines: int | None) -> tuple[Sequence[Row], int]:
    """The rows to show, and the number of those that are left out: they are OK, and nothing waits there."""
    if lines is None or len(rows) <= lines:
        return rows, 0
    quiet = [row for row in rows if row[1].verdict is Verdict.OK and not row[1].waiting]
    left_out = quiet[-min(len(quiet), len(rows) - lines + 1) :]
    away = {(group.group, topic.topic) for group, topic in left_out}
    return [row for row in rows if (row[0].group, row[1].topic) not in away], len(left_out)


def _cut(name: str, width: int) -> str:
    """A name that fits; both its ends tell more than its middle."""
    if width >= NARROW or len(name) <= LONGEST_NAME:
        return name
    half = (LONGEST_NAME - 1) // 2
    return f"{name[: LONGEST_NAME - 1 - half]}…{name[-half:]}"


def _color(verdict: Verdict) -> str:
    return COLORS.get(verdict, "red")
