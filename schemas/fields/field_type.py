"""The contract of field types, and what those have in common whose values are text in every store."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar, Literal

if TYPE_CHECKING:  # most processes need neither, and each takes half a second to load
    import pyarrow
    from sqlalchemy.types import TypeEngine

Shortcut = Callable[[object], str | int | None]

LONGEST_NOTATION = 100
"""Characters of a number, a date or a telephone number: no way to write one takes more."""

LONGEST_TEXT = 10_485_760
"""Characters that Postgres' VARCHAR may hold at most."""


class FieldType(ABC):
    """All that the pipeline needs to know of a field: a declared field is stored, indexed, served and exported."""

    python_types: ClassVar[tuple[type, ...]]
    """The types that a model may give such a field, besides None."""
    json_type: ClassVar[Literal["string", "integer", "number"]]
    """The JSON type in answers. In messages a number is text, so that it keeps all its digits."""

    search: bool = False
    """True where a search looks into the field."""
    personal: ClassVar[bool] = False
    """True for a type whose every value is personal data, and finds its person."""

    @abstractmethod
    def normalize(self, value: object) -> str | int | None:
        """The normal form, JSON-ready and as Postgres reads it; None for absent. Pure, and called once per record.

        Idempotent: normalizing a normal form returns it. Raises InvalidField.
        """

    def shortcut(self) -> Shortcut | None:
        """A function that gives the normal form of values that are written as most are, in a fraction of the time.

        Its None says nothing of the value: `normalize` is the judge then. It never gives what `normalize` would not
        give, and never raises. Asked for once per source; None where there is no such function.
        """
        return None

    @abstractmethod
    def sql_type(self) -> "TypeEngine[Any]":
        """The type of the Postgres column."""

    @abstractmethod
    def arrow_type(self) -> "pyarrow.DataType | None":
        """The type in Arrow and Parquet; None for a decimal that is as wide as the values that are stored."""

    @abstractmethod
    def mapping(self) -> dict[str, Any]:
        """The Elasticsearch mapping."""


class TextColumn(FieldType):
    """The stores' side of a field type whose values are text, of at most `max_length` characters if it is not None."""

    python_types = (str,)
    json_type = "string"
    max_length: int | None

    def __post_init__(self) -> None:
        """Raises ValueError for a length that no column has."""
        longest = self.max_length
        if longest is not None and not (type(longest) is int and 1 <= longest <= LONGEST_TEXT):
            raise ValueError(f"{type(self).__name__}: max_length={longest!r} is no number from 1 to {LONGEST_TEXT}")

    def sql_type(self) -> "TypeEngine[Any]":
        from sqlalchemy import TEXT, VARCHAR

        return TEXT() if self.max_length is None else VARCHAR(self.max_length)

    def arrow_type(self) -> "pyarrow.DataType":
        import pyarrow

        return pyarrow.string()

    def mapping(self) -> dict[str, Any]:
        # Beyond Lucene's limit of 32,766 bytes a term would refuse the document; the text field holds the whole value.
        exact = {"type": "keyword", "ignore_above": 1024}
        return {"type": "text", "fields": {"exact": exact}} if self.search else exact
