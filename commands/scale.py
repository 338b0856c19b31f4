"""`headrace scale`: more or fewer workers of a role in the running stack."""

import asyncio
from typing import Annotated

import typer
from aiokafka.errors import KafkaError
from confluent_kafka import KafkaException

from commands.output import fail, print_json, stderr, stdout
from local_stack.programs import SCALABLE
from local_stack.scaling import Scaled, read_counts
from local_stack.scaling import scale as scale_stack
from local_stack.state_folder import StateFolder
from local_stack.steps import Steps
from monitoring.lag import group_topics
from runtime.kafka.clients import SESSION_TIMEOUT_MS, reason
from runtime.kafka.group_members import remove_members
from runtime.kafka.topic_admin import partition_counts
from runtime.settings import Settings, load_settings


def scale(
    counts: Annotated[
        list[str],
        typer.Argument(metavar="ROLE=N…", help=f"{', '.join(SCALABLE)}, and how many."),
    ],
    as_json: Annotated[
        bool, typer.Option("--json", help="Print {counts, added, removed, warnings} when it is done.")
    ] = False,
) -> None:
    """Run so many workers of a role in the running stack, and in those that `headrace up` starts from now on.

    Returns when each new worker is healthy and each superfluous one has finished what it had in hand, left its
    consumer group and ended. Other processes are left alone. More workers than partitions is allowed, and warned of.

    Examples:

      headrace scale normalizer=3 postgres=2

      headrace scale normalizer=1 --json
    """
    settings = load_settings()
    if settings.headrace_stack == "docker":
        fail("Containers are scaled by compose: docker compose up -d --wait --scale normalizer=3")
    state = StateFolder.at(settings.home)
    wanted = read_counts(counts)
    with Steps(stderr if as_json else stdout) as steps:
        done = scale_stack(state, wanted, steps)
    warnings = [*_leave_groups(settings, done), *_idle(settings, done.counts)]
    if as_json:
        print_json({"counts": done.counts, "added": done.added, "removed": done.removed, "warnings": warnings})
        return
    for warning in warnings:
        stderr.print(f"Warning: {warning}", markup=False)
    running = ", ".join(f"{number} {role}" for role, number in done.counts.items())
    stdout.print(f"Running: {running}.", markup=False)


def _leave_groups(settings: Settings, done: Scaled) -> list[str]:
    warnings = []
    for group, workers in done.removed_workers.items():
        try:
            asyncio.run(remove_members(settings, group, workers))
        except (KafkaError, OSError, TimeoutError) as error:
            seconds = SESSION_TIMEOUT_MS // 1000
            warnings.append(
                f"Kafka did not take the removed workers out of the group {group} ({error!r}); "
                f"it gives their partitions to the others within {seconds} s."
            )
    return warnings


def _idle(settings: Settings, counts: dict[str, int]) -> list[str]:
    """A warning for each role with more workers than can have work."""
    topics = group_topics(settings)
    try:
        partitions = partition_counts(settings)
    except KafkaException as error:
        return [f"Kafka does not say how many partitions there are: {reason(error)}"]
    warnings = []
    for role, count in counts.items():
        found = [partitions.get(settings.named(topic), 0) for topic in topics[role]]
        # Faust gives partition n of every topic to the same worker; librdkafka spreads all partitions of all topics.
        busy = max(found) if role == "normalizer" else sum(found)
        if count > busy:
            warnings.append(
                f"{count - busy} of {count} {role} workers will idle: there are {busy} partitions to share "
                "(TOPIC_PARTITIONS, when topics are created)."
            )
    return warnings
