"""Writes docs/metrics.md from the registry: `python -m runtime.metrics_document > docs/metrics.md`."""

import sys
from itertools import groupby

from runtime.instruments import Declared
from runtime.metrics import METRICS, SINK_ROLES

BEGIN = """# Metrics

Every process of the pipeline (all but the mock server and the dashboard) answers `GET /metrics`, in Prometheus' text
format, or in OpenMetrics where the caller accepts it. The API does so on its own port, all others on their health port
(`headrace status --json` has each; `HEALTH_BIND` says from where they can be reached). Beside what is below, each shows
Python's and the operating system's view of itself: `process_cpu_seconds_total`, `process_resident_memory_bytes`,
`python_gc_…`.

`deploy/` has alert rules, dashboards and a scrape configuration that use these names; [the runbook](runbook.md) says
what to do about each alert. Names from outside (fields, reason codes) have a bounded number of labels; the rest is
counted as `(other)`. Paths, keys and e-mail addresses are never labels.

This page is written from `runtime/metrics.py`, by `python -m runtime.metrics_document`.
"""


def document() -> str:
    """The page. Pure."""
    parts = [BEGIN]
    for roles, declared in groupby(METRICS, lambda one: one.roles):
        parts += [f"## {_whose(roles)}\n", "| metric | kind | labels | meaning |\n| --- | --- | --- | --- |"]
        parts += [*map(_row, declared), ""]
    return "\n".join(parts)


def _whose(roles: tuple[str, ...]) -> str:
    shown = list(roles)
    if set(SINK_ROLES) <= set(roles):
        place = shown.index(SINK_ROLES[0])
        shown[place : place + len(SINK_ROLES)] = ["sink-*"]
    return ", ".join(f"`{role}`" for role in shown)


def _row(one: Declared) -> str:
    name = one.samples[0] if one.kind == "counter" else one.name
    labels = ", ".join(f"`{label}`" for label in one.labels) or "none"
    return f"| `{name}` | {one.kind} | {labels} | {one.meaning} |"


if __name__ == "__main__":
    sys.stdout.write(document())
