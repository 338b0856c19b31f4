"""Records of a source that is over the failure limit: kept as they are, under their coordinates, until released."""

import msgspec

from schemas.errors import InvalidRecord
from schemas.events import HEADER_KIND, HEADER_MAPPING, HEADER_RUN, HEADER_SOURCE, FailedRecord
from schemas.source_headers import SourceHeaders, header_text
from stream_processors.normalize import Normalized, RawRecord, Rejected, failed_record, kept_key

MAX_MAPPING_BYTES = 65_536
"""A longer mapping would not fit beside the payload; what has one is not held."""

REMEDY = (
    "put the mapping, the deploy or the source right, then `headrace failures release --source NAME`, "
    "or `headrace failures discard --source NAME`"
)

_NAMES = (HEADER_SOURCE, HEADER_KIND, HEADER_RUN, HEADER_MAPPING)

_decode = msgspec.json.Decoder(FailedRecord).decode
_encode = msgspec.json.Encoder().encode


class Held(msgspec.Struct, gc=False):
    """A record that is held, encoded, keyed like the original."""

    key: bytes | None
    value: bytes


def may_be_held(headers: SourceHeaders) -> bool:
    """True for a record that counts in the window of its source, and is held with it. Pure.

    What its producer has marked as unreadable says nothing of a mapping or a deploy, and no release would mend it.
    """
    return not headers.problem and len(headers.mapping or b"") <= MAX_MAPPING_BYTES


def held(dataset: str, record: RawRecord, headers: SourceHeaders, outcome: Normalized | Rejected, now_ms: int) -> Held:
    """The record instead of what came of it. Pure. `outcome` says why it would have failed, if it would."""
    if isinstance(outcome, Rejected):
        failed = _decode(outcome.value)
    else:
        verdict = InvalidRecord("held", "the record is valid; it waits with the others of its source")
        failed = failed_record(dataset, record, headers, verdict, now_ms)
    mapping = (headers.mapping or b"").decode("utf-8", "replace")
    texts = (*map(header_text, (headers.name, headers.kind, headers.run)), mapping)
    kept = {name: text for name, text in zip(_NAMES, texts, strict=True) if text}
    return Held(kept_key(record), _encode(msgspec.structs.replace(failed, held=True, headers=kept)))
