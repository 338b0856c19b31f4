"""The versions that a store holds, key by key: what a sink offers so that `headrace audit --deep` can compare them."""

from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager
from typing import NamedTuple, Protocol, Self

from runtime.settings import Settings
from schemas.dataset import Dataset

PAGE = 2_000
"""Keys per question: what bounds the memory."""


class Held(NamedTuple):
    """What a store holds under a key."""

    version: int
    record: bool = True
    """Whether it says that the record exists."""
    serves: bool = True
    """Whether readers get an answer from it; a cache's floor alone gives none."""


Holdings = dict[str, Held]


class HeldVersions(Protocol):
    """A store that follows Postgres."""

    name: str
    group: str
    """The consumer group that fills it."""
    complete: bool
    """Whether it must hold every row; a cache holds what was asked for."""

    @classmethod
    def opened(cls, settings: Settings) -> AbstractAsyncContextManager[Self]:
        """Connected to the store."""

    async def versions(self, dataset: Dataset, keys: Sequence[str]) -> Holdings:
        """What it holds under those of the keys that it knows."""

    def pages(self, dataset: Dataset) -> AsyncIterator[Sequence[str]]:
        """The keys of all records that it holds; one may come twice."""


class StoreTrouble(Exception):
    """A store answers, but not with what was asked for."""
