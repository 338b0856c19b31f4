"""Headers whose names are no text: Kafka takes any bytes for a name, and its clients for Python decode them as UTF-8.

Clients in Go, Rust or C can send such a name. It would end every process that reads the record, again and again. So a
record with one counts, wherever it is read, as a record without headers.
"""

from operator import methodcaller
from typing import Any

Headers = tuple[tuple[str, bytes | None], ...]

_headers = methodcaller("headers")
"""Not `message.headers()`: what has been called often, the interpreter calls without a look at whether it has failed,
and the error then comes up somewhere behind it.
"""


def message_headers(message: Any) -> Headers:
    """The headers of a message that librdkafka's client has consumed; none where a name is no UTF-8. Idempotent.

    Use it instead of `message.headers()`, which raises SystemError then, and ends the process if it is asked again.
    """
    try:
        return tuple(_headers(message) or ())
    except (SystemError, UnicodeDecodeError):
        message.set_headers([])
        return ()
