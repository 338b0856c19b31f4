"""One message as people want to see it. Pure: bytes become text, JSON stays JSON, and what cannot be read is named."""

from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Literal

import msgspec

from runtime.kafka.browse import TopicMessage, at_ms
from runtime.settings import Settings
from schemas.dataset import Dataset
from schemas.errors import HOSTILE, FieldProblem
from schemas.events import (
    DELETED,
    HEADER_CONTENT_TYPE,
    HEADER_MAPPING,
    HEADER_PROBLEM,
    ChangeEvent,
    CleanRecord,
    FailedRecord,
)
from schemas.masking import (
    MASK,
    dataset_of,
    masked_data,
    masked_key,
    masked_message,
    masked_payload,
    masked_problems,
    masks,
)
from schemas.topics import Topic, all_topics

LONGEST_VALUE = 65_536
"""Bytes of a value that are shown."""

LONGEST_HEADER = 1_000
MOST_HEADERS = 50

OUR_HEADERS = ("headrace-", "ce_", "trace", HEADER_CONTENT_TYPE)
"""Beginnings of the names of headers in which no record speaks."""

Kind = Literal["json", "text", "binary", "none"]


@dataclass(frozen=True)
class ShownMessage:
    """A message. `value` by its `kind`: the JSON itself; text; bytes in hexadecimal; null. Where it is `truncated`, it
    is the beginning, as text (JSON too) or in hexadecimal.
    """

    topic: str
    partition: int
    offset: int
    timestamp: datetime
    key: str | None
    headers: dict[str, str | None]
    kind: Kind
    value: Any
    bytes: int
    """The length of the whole value."""
    truncated: bool
    remark: str | None
    """The nature of the message, where the value does not say it: a tombstone, a delete, unreadable and why."""
    payload: str | None
    """The rejected bytes of a message on `failures`, as text if they are, else in hexadecimal."""


def shown(settings: Settings, topic: str, message: TopicMessage, *, masked: bool = False) -> ShownMessage:
    """A message of this physical topic as it is shown; personal data may be masked."""
    declared = next((one for one in all_topics() if settings.named(one.name) == topic), None)
    if masked:
        message = _masked(declared, message)
    kind, value, truncated = _value(message.value)
    remark, payload = _remark(declared, message)
    return ShownMessage(
        message.topic,
        message.partition,
        message.offset,
        at_ms(message.timestamp),
        None if message.key is None else text_of(message.key, LONGEST_HEADER),
        {
            name[:LONGEST_HEADER]: None if content is None else text_of(content, LONGEST_HEADER)
            for name, content in message.headers[:MOST_HEADERS]
        },
        kind,
        value,
        len(message.value or b""),
        truncated,
        remark,
        payload,
    )


def _masked(topic: Topic | None, message: TopicMessage) -> TopicMessage:
    """The message without personal data; what no stage of ours wrote is masked whole."""
    dataset = dataset_of(topic.name.rpartition(".")[0]) if topic else None
    headers = dict(message.headers)
    value: bytes | None = message.value
    try:
        if value is None:
            pass
        elif topic is None:
            value = MASK.encode()
        elif topic.value is None:
            value = masked_payload(dataset, value, headers.get(HEADER_MAPPING))
        elif topic.value is FailedRecord:
            failed = msgspec.json.decode(value, type=FailedRecord)
            dataset = dataset_of(failed.dataset)
            value = msgspec.json.encode(_masked_failure(dataset, failed))
        else:
            record: Any = msgspec.json.decode(value, type=topic.value)
            data = msgspec.Raw(masked_data(dataset, bytes(record.data)))
            value = msgspec.json.encode(msgspec.structs.replace(record, key=masked_key(dataset, record.key), data=data))
    except HOSTILE:
        value = MASK.encode()
    if HEADER_PROBLEM in headers and masks(dataset):
        reason = (headers[HEADER_PROBLEM] or b"").partition(b";")[0]
        headers[HEADER_PROBLEM] = reason + b";" + MASK.encode()
    if masks(dataset):
        headers = {n: value if n.startswith(OUR_HEADERS) else MASK.encode() for n, value in headers.items()}
    key = masked_key(dataset, None if message.key is None else message.key.decode("utf-8", "replace"))
    key_bytes = MASK.encode() if key == MASK else message.key
    return replace(message, key=key_bytes, headers=tuple(headers.items()), value=value)


def _masked_failure(dataset: Dataset | None, failed: FailedRecord) -> FailedRecord:
    problems = [msgspec.structs.asdict(problem) for problem in failed.problems]
    mapping = (failed.headers or {}).get(HEADER_MAPPING)
    return msgspec.structs.replace(
        failed,
        key=masked_key(dataset, failed.key),
        payload=masked_payload(dataset, failed.payload, mapping.encode() if mapping else None),
        message=masked_message(dataset, failed.message, problems),
        problems=tuple(FieldProblem(**problem) for problem in masked_problems(dataset, problems)),
    )


def text_of(content: bytes, longest: int) -> str:
    """The beginning of bytes: text if they are UTF-8, otherwise hexadecimal after `0x`."""
    try:
        text = content.decode()
    except UnicodeDecodeError:
        return "0x" + content[: longest // 2].hex() + ("…" if len(content) > longest // 2 else "")
    return text if len(text) <= longest else text[:longest] + "…"


def _value(content: bytes | None) -> tuple[Kind, Any, bool]:
    if content is None:
        return "none", None, False
    begin, truncated = content[:LONGEST_VALUE], len(content) > LONGEST_VALUE
    try:
        # A character that the bound has cut in two makes no text binary.
        text = begin.decode("utf-8", "ignore" if truncated else "strict")
        if truncated:
            content.decode()
    except UnicodeDecodeError:
        return "binary", begin.hex(), truncated
    try:
        msgspec.json.decode(content)
    except HOSTILE:
        return "text", text, truncated
    return "json", text if truncated else msgspec.Raw(content), truncated


def _remark(topic: Topic | None, message: TopicMessage) -> tuple[str | None, str | None]:
    """The nature of a message, and the rejected bytes that it carries."""
    if topic is None:
        return None, None
    if message.value is None:
        return ("a tombstone: deletes the record of its key" if topic.value is None else "no value"), None
    if topic.value is None:
        problem = dict(message.headers).get(HEADER_PROBLEM)
        return None if problem is None else f"unreadable for its producer: {text_of(problem, LONGEST_HEADER)}", None
    try:
        content = msgspec.json.decode(message.value, type=topic.value)
    except HOSTILE as error:
        return f"unreadable: no {topic.value.__name__} ({error})"[:LONGEST_HEADER], None
    match content:
        case ChangeEvent(op="deleted"):
            return "a delete", None
        case CleanRecord() if bytes(content.data) == DELETED:
            return "a delete", None
        case FailedRecord(payload=payload) if payload is not None:
            return None, text_of(payload, LONGEST_VALUE)
    return None, None
