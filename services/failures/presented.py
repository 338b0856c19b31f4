"""A failure with all that is known of it, as JSON shows it: the same for the command line and the API."""

import base64
from collections.abc import Mapping, Sequence
from typing import Any

BOOKKEEPING = ("raw_headers", "payload", "edited_payload", "claim")


def presented(failure: Mapping[str, Any], history: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Pure. Payloads are `{encoding, content}`: text if they are UTF-8, base64 otherwise."""
    return {
        **{name: value for name, value in failure.items() if name not in BOOKKEEPING},
        "payload": payload_text(failure["payload"]),
        "edited_payload": payload_text(failure["edited_payload"]),
        "history": [
            {**entry, "before": payload_text(entry["before"]), "after": payload_text(entry["after"])}
            for entry in history
        ],
    }


def payload_text(payload: bytes | None) -> dict[str, str] | None:
    """Bytes as JSON can carry them; None for none."""
    if payload is None:
        return None
    try:
        return {"encoding": "utf-8", "content": payload.decode()}
    except UnicodeDecodeError:
        return {"encoding": "base64", "content": base64.b64encode(payload).decode()}
