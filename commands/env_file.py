"""Warns of names in `.env` that look like misspelt settings of ours."""

import difflib
import re
from collections.abc import Collection, Iterable

from commands.output import stderr
from runtime.settings import ENV_FILE, Settings, read_env_file

OTHERS = frozenset({
    "HEADRACE_DATA", "HEADRACE_SERVERS", "HEADRACE_IMAGE", "HEADRACE_TEST_SERVERS", "HEALTH_PORT_BASE", "JAVA_HOME",
    "POSTGRES_PASSWORD", "REDIS_PASSWORD", "COMPOSE_PROFILES", "COMPOSE_PROJECT_NAME", "COMPOSE_FILE",
    "PROMETHEUS_PORT", "GRAFANA_PORT", "PIP_CONFIG_FILE", "JDK_JAVA_OPTIONS",
    "AWS_DEFAULT_REGION", "AWS_PROFILE", "AWS_SECRET_KEY",
})  # fmt: skip
"""Variables read beside the settings, by us, by docker-compose.yml, or by clients."""

ALIKE = 0.85
"""Of two names: one letter left out, doubled or taken for its neighbour. REDIS_HOST and REDIS_PORT are less so."""


def warn_of_misspelt() -> None:
    """Warn of each misspelt name in `.env` with the one that may be meant. Names of other tools may be there."""
    known = {name.upper() for name in Settings.model_fields} | OTHERS
    variables = (name for name in read_env_file(ENV_FILE) if not name.startswith("OTEL_"))  # OpenTelemetry has many
    if not (names := {name for name in variables if name.upper() not in known}):
        return
    from local_stack.addresses import DEFAULT_PORTS, cluster_ports  # here, since few have such names
    from local_stack.settings_of_processes import referred_to

    known |= DEFAULT_PORTS.keys() | cluster_ports(5).keys() | referred_to(ENV_FILE.parent)
    for name, meant in misspelt(names, known).items():
        stderr.print(
            f"Warning: {ENV_FILE}: {name} is no setting of Headrace and is not read; is {meant} meant?", markup=False
        )


def misspelt(names: Iterable[str], known: Collection[str]) -> dict[str, str]:
    """By name, the one that may be meant. Pure."""
    found = {}
    for name in sorted(names):
        if name.upper() not in known:
            cutoff = 0.5 if re.match("HEADRACE_", name, re.IGNORECASE) else ALIKE
            if near := difflib.get_close_matches(name.upper(), known, 1, cutoff):
                found[name] = near[0]
    return found
