"""`headrace lag`: how far each consumer group is behind, in records and seconds, and whether it catches up."""

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import asdict
from enum import StrEnum
from typing import Annotated, Any

import typer
from confluent_kafka import KafkaException
from rich.text import Text

from commands.lag_tables import group_tables, system_tables
from commands.output import WRONG_USAGE, fail, print_json, stdout
from commands.trouble import answered_by
from monitoring.verdicts import SEVERITY, Verdict
from monitoring.view import GroupView, SystemLag
from runtime.kafka.clients import reason
from runtime.printable import printable
from runtime.settings import Settings, load_settings


class Order(StrEnum):
    """Columns to sort by."""

    VERDICT = "verdict"
    LAG = "lag"
    AGE = "age"
    IN = "in"
    OUT = "out"
    DRAIN = "drain"
    NAME = "name"


def lag(
    group: Annotated[
        str | None, typer.Argument(help="Show the partitions of this consumer group.", show_default=False)
    ] = None,
    every: Annotated[bool, typer.Option("--all", "-a", help="Show the groups of others too.")] = False,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Refresh until Ctrl-C.")] = False,
    interval: Annotated[float, typer.Option(help="Seconds between refreshes.", min=0.2)] = 1.0,
    sort: Annotated[Order, typer.Option(help="What comes first.")] = Order.VERDICT,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for scripts: a row per partition.")] = False,
    fail_over: Annotated[
        int | None,
        typer.Option(help="End with code 1 if a group is behind by more records.", min=0, show_default=False),
    ] = None,
    fail_status: Annotated[
        str | None, typer.Option(help="End with code 1 if a verdict is this one or worse.", show_default=False)
    ] = None,
) -> None:
    """Show how far every consumer group is behind: records, age of the oldest that waits, rates, time to catch up.

    Verdicts, worst first: NO CONSUMER, STOP (commits nothing), STALL (stands in a partition while it commits in
    others), REWIND (was put back), WARN (falls behind), OK. They are judged by commits, over the ten minutes that
    `headrace monitor` has seen. ≤ before a number: some of the offsets may carry no record. ~: estimated.

    Examples:

      headrace lag

      headrace lag sink-postgres --watch

      headrace lag --all --sort age

      headrace lag --fail-status STALL --fail-over 10000 || echo "look at it"

      headrace lag --json | jq 'map(.lag) | add'
    """
    settings = load_settings()
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # a broker that does not answer is told in a line of ours
    worst = None if fail_status is None else _verdict(fail_status)
    if not watch:
        view = asyncio.run(_read(settings))
        if as_json:
            print_json(_rows(settings, view, group, every))
        else:
            for part in _shown(settings, view, group, every, sort):
                stdout.print(part)
        _judge(_chosen(settings, view, group, every), fail_over, worst)
        return
    try:
        asyncio.run(_watch(settings, lambda view: _shown(settings, view, group, every, sort), interval))
    except KeyboardInterrupt:
        return


async def _read(settings: Settings) -> SystemLag:
    from monitoring.watching import read_view  # here, since it loads clients that the help page does not need

    with answered_by("Kafka"):
        return await read_view(settings)


async def _watch(settings: Settings, show: Callable[[SystemLag], Sequence[Any]], interval: float) -> None:
    from rich.console import Group  # here, since it is seldom wanted
    from rich.live import Live

    from monitoring.watching import LagWatch

    watch = LagWatch(settings)
    try:
        with answered_by("Kafka"):
            parts = show(await watch.view())
        with Live(Group(*parts), console=stdout, auto_refresh=False) as live:
            while True:
                await asyncio.sleep(interval)
                try:
                    parts = show(await watch.view())
                    live.update(Group(*parts), refresh=True)
                except KafkaException as error:
                    away = f"Kafka does not answer: {reason(error)}; this is how it was, and it is asked again"
                    live.update(Group(Text(away, style="red"), *parts), refresh=True)
    finally:
        await watch.close()


def _shown(settings: Settings, view: SystemLag, group: str | None, every: bool, sort: Order) -> list[Any]:
    height = stdout.height if stdout.is_terminal else None
    if group is not None:
        return group_tables(_group(settings, view, group), view, width=stdout.width)
    return system_tables(view, every=every, order=sort.value, width=stdout.width, height=height)


def _chosen(settings: Settings, view: SystemLag, group: str | None, every: bool) -> list[GroupView]:
    if group is not None:
        return [_group(settings, view, group)]
    return [one for one in view.groups if one.ours or every]


def _group(settings: Settings, view: SystemLag, name: str) -> GroupView:
    found = view.group(settings.named(name)) or view.group(name)
    if found is None:
        known = ", ".join(sorted(printable(group.group) for group in view.groups)) or "none"
        fail(f"The broker knows no consumer group {name!r} that has committed anything; it knows: {known}")
    return found


def _rows(settings: Settings, view: SystemLag, group: str | None, every: bool) -> list[dict[str, Any]]:
    """A row per partition, in the order of group, topic and partition."""
    rows = [
        {"group": one.group, "topic": topic.topic, "ours": one.ours, "state": one.state, **asdict(partition)}
        for one in _chosen(settings, view, group, every)
        for topic in one.topics
        for partition in topic.partitions
    ]
    return sorted(rows, key=lambda row: (row["group"], row["topic"], row["partition"]))


def _verdict(text: str) -> Verdict:
    wanted = text.upper().replace("-", " ").replace("_", " ")
    try:
        return Verdict(wanted)
    except ValueError:
        fail(f"--fail-status {text!r}: there is no such verdict; one of {', '.join(Verdict)}", WRONG_USAGE)


def _judge(groups: Sequence[GroupView], fail_over: int | None, worst: Verdict | None) -> None:
    """End with code 1 where a script asked for it."""
    over = fail_over is not None and any(group.waiting > fail_over for group in groups)
    if over or (worst is not None and any(SEVERITY[group.verdict] >= SEVERITY[worst] for group in groups)):
        raise typer.Exit(1)
