from datetime import UTC, datetime

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from runtime.settings import Settings
from schemas.events import ChangeEvent, CleanRecord, Origin
from schemas.registry import dataset_named
from sinks.postgres.arrivals import decode_arrival
from sinks.postgres.change_events import stored_events
from sinks.postgres.merge import Stored

RECORDS = dataset_named("records")
CREATED = datetime(2024, 2, 29, 23, 59, 59, 120, tzinfo=UTC)
UPDATED = datetime(2025, 1, 1, tzinfo=UTC)

texts = st.text(st.characters(codec="utf-8", exclude_characters="\x00"))


@given(
    texts.filter(lambda text: ":" not in text),
    texts,
    texts,
    st.none() | texts,
    st.none() | st.just(UPDATED),
    st.none() | st.integers(1, 2**63 - 1),
)
def test_the_bytes_of_an_event_say_what_msgspec_would_encode(
    source: str, source_id: str, name: str, description: str | None, updated_at: datetime | None, row_id: int | None
) -> None:
    data = {
        "source": "csv",
        "source_name": source,
        "source_id": source_id,
        "name": name,
        "value": None,
        "description": None,
    }
    key, origin = f"{source}:{source_id}", Origin('raw "topic"', 3, 7, 1_700_000_000_000)
    clean = CleanRecord(key, origin, msgspec.Raw(msgspec.json.encode(data) + b" "))
    arrival = decode_arrival(RECORDS, msgspec.json.encode(clean))

    [outgoing] = stored_events(
        RECORDS, [Stored(arrival, "updated", 2**62, CREATED, updated_at, row_id)], Settings(headrace_namespace="n")
    )

    identity = {} if row_id is None else {"id": row_id}
    content = {**data, **identity, "created_at": CREATED, "updated_at": updated_at}
    expected = ChangeEvent(key, "stored", 2**62, origin, msgspec.Raw(msgspec.json.encode(content)))
    assert (outgoing.topic, outgoing.partition, outgoing.key) == ("n.records.changed", 3, key.encode())
    event = msgspec.json.decode(outgoing.value or b"", type=ChangeEvent)
    assert (event.key, event.op, event.version, event.origin) == (key, "stored", 2**62, origin)
    assert msgspec.json.decode(outgoing.value or b"") == msgspec.json.decode(msgspec.json.encode(expected))


def test_a_delete_tells_its_version_and_no_content() -> None:
    origin = Origin("records.raw", 1, 2, 3)
    arrival = decode_arrival(RECORDS, msgspec.json.encode(CleanRecord("s:1", origin, msgspec.Raw(b"null"))))
    [outgoing] = stored_events(RECORDS, [Stored(arrival, "deleted", 9, None, None, None)], Settings())
    assert msgspec.json.decode(outgoing.value or b"", type=ChangeEvent) == ChangeEvent("s:1", "deleted", 9, origin)
