"""The versions that a store holds, key by key: what a sink offers so that `headrace audit --deep` can compare them."""

from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager
from typing import NamedTuple, Protocol, Self

from runtime.settings import Settings
from schemas.dataset import Dataset

PAGE = 2_000
"""Keys per question: what bounds the memory."""


class Held(NamedTuple):
    """An entry of a store under a key."""

    version: int
    record: bool = True
    """False where it says that there is no such record."""
    serves: bool = True
    """False where readers get no answer from it, as from a cache's floor alone."""


Holdings = dict[str, Held]


class HeldVersions(Protocol):
    """A store that follows Postgres."""

    name: str
    group: str
    """The consumer group that fills it."""
    complete: bool
    """True if it must hold every row; a cache holds what was asked for."""

    @classmethod
    def opened(cls, settings: Settings) -> AbstractAsyncContextManager[Self]:
        """Connected to the store."""

    async def versions(self, dataset: Dataset, keys: Sequence[str]) -> Holdings:
        """Its entries under those of the keys that it knows."""

    def pages(self, dataset: Dataset) -> AsyncIterator[Sequence[str]]:
        """The keys of all records that it holds; one may come twice."""


class StoreTrouble(Exception):
    """A store answers, but not with what was asked for."""
