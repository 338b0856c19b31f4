"""What the sinks that follow Postgres make of messages that neither the Postgres sink nor the relay has written."""

import json
from typing import Any

import pytest

from runtime.settings import Settings
from schemas.events import ChangeEvent
from sinks.changes import ChangeReader
from sinks.redis_invalidation import ChangedVersion
from stores.cache import _packed
from tests.forged_message import Forged

SETTINGS = Settings(headrace_namespace="n")
GOOD: dict[str, Any] = {"key": "C1", "op": "stored", "version": 7, "data": {"customer_id": "C1"}}


@pytest.mark.parametrize("kind", [ChangeEvent, ChangedVersion])
@pytest.mark.parametrize("version", [-1, -(2**70), 2**62, 2**63, 2**64, 2**70, 1.5, "7", None])
def test_a_version_that_postgres_cannot_give_is_passed_over(kind: type[Any], version: Any) -> None:
    odd, good = (json.dumps(GOOD | more).encode() for more in ({"version": version}, {}))
    reader = ChangeReader(SETTINGS, kind)
    read = reader.newest(Forged("n.customers.changed", content, n) for n, content in enumerate((good, odd)))
    assert [(dataset.name, change.key, change.version) for dataset, change in read] == [("customers", "C1", 7)]
    assert _packed([change.version for _, change in read])
