"""A message that somebody has written to a topic of ours, as a sink gets it."""

from typing import NamedTuple


class Forged(NamedTuple):
    """A message of librdkafka's consumer."""

    on: str
    content: bytes
    number: int

    def topic(self) -> str:
        return self.on

    def partition(self) -> int:
        return 0

    def offset(self) -> int:
        return self.number

    def timestamp(self) -> tuple[int, int]:
        return (1, 1_000)

    def key(self) -> bytes:
        return b"\xff\x00"

    def value(self) -> bytes:
        return self.content
