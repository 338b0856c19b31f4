"""A payload as people compare it: what came, what it says, and what each field has to be. Pure."""

import base64
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

LONGEST = 60_000
"""Characters of a payload that a page shows: it may have megabytes."""


@dataclass(frozen=True)
class FieldView:
    """One field of a record that failed."""

    name: str
    sent: str | None
    """The value as it was sent; None where the record does not have it."""
    expects: str
    problem: str


def payload_as_text(payload: Mapping[str, Any] | None) -> str:
    """The bytes as they came: text, or a dump of hexadecimal digits where they are none."""
    if payload is None:
        return ""
    content = str(payload["content"])
    if payload["encoding"] == "utf-8":
        return content
    return base64.b64decode(content).hex(" ")


def pretty(content: str) -> str:
    """JSON with a line per member, its members in their order and its numbers with all their digits; else as it is."""
    try:
        return msgspec.json.format(content, indent=2)
    except (msgspec.DecodeError, RecursionError, ValueError):
        return content


def as_json(value: Any) -> str:
    """An answer of the API, or a part of it, as compact JSON; numbers keep all their digits and stay numbers."""
    return _encode(value).decode()


def members_of(content: str) -> dict[str, str]:
    """The members of a JSON object, each as it is written; none of anything else."""
    try:
        return {name: bytes(value).decode().strip() for name, value in _members.decode(content.encode()).items()}
    except (msgspec.MsgspecError, RecursionError, ValueError):
        return {}


def views(
    content: str, expects: Mapping[str, str], problems: Sequence[Mapping[str, Any]], message: str
) -> list[FieldView]:
    """The record's members and the dataset's fields, wrong ones first known by their problems.

    A source may call a member otherwise than the dataset its field: both are shown then.
    """
    members = members_of(content)
    wrong: dict[str, str] = {}
    for problem in problems:
        wrong[str(problem.get("field") or "")] = str(problem.get("message") or problem.get("code") or "")
    if not problems and (name := message.partition(":")[0]) in {*members, *expects}:
        wrong[name] = message.partition(": ")[2]
    names = [*members, *(name for name in expects if name not in members)]
    return [
        FieldView(
            name,
            value_text(members[name]) if name in members else None,
            expects.get(name, ""),
            wrong.get(name, ""),
        )
        for name in names
    ]


def value_text(written: str) -> str:
    """A value as JSON writes it; text without its quotes where that is clear."""
    if not written.startswith('"'):
        return written
    plain: str = msgspec.json.decode(written, type=str)
    return plain if plain and plain == plain.strip() and plain.isprintable() else written


def changes(before: str, after: str) -> list[tuple[str, str | None, str | None]]:
    """(member, before, after) of each member that differs; one entry without a name where one of both is no object."""
    old, new = members_of(before), members_of(after)
    if not old or not new:
        return [] if before == after else [("", before, after)]
    return [
        (name, value_text(old[name]) if name in old else None, value_text(new[name]) if name in new else None)
        for name in dict.fromkeys([*old, *new])
        if old.get(name) != new.get(name)
    ]


def to_send(one: Mapping[str, Any]) -> str:
    """The text that a retry sends: the edit that was kept, else what came. Pure."""
    return payload_as_text(one["edited_payload"] or one["payload"])


def differs(one: Mapping[str, Any], written: str) -> bool:
    """True if a retry of the record, as the API has it now, would send another than is written here. Pure."""
    return bool(changes(pretty(to_send(one)), pretty(written)))


def edit_command(failure_id: int, before: str, after: str) -> str:
    """The command line that makes the same edit: `--set` for members that are text, else a file."""
    found = changes(before, after)
    new = members_of(after)
    if found and new and all(new.get(name, "").startswith('"') for name, _, _ in found):
        texts = {name: msgspec.json.decode(new[name], type=str) for name, _, _ in found}
        return " ".join(
            [
                f"headrace failures edit {failure_id}",
                *(f"--set {shlex.quote(f'{name}={text}')}" for name, text in texts.items()),
            ]
        )
    return f"headrace failures edit {failure_id} --file corrected.json"


_encode = msgspec.json.Encoder(decimal_format="number").encode

_members = msgspec.json.Decoder(dict[str, msgspec.Raw])
