"""Field types: a dataset's model names one per field, `email: Annotated[str, Email(max_length=255)]`."""

from schemas.fields.date import Date
from schemas.fields.field_type import FieldType, TextColumn
from schemas.fields.number import Decimals, Money, Number, WholeNumber, decimal_mark
from schemas.fields.phone import Phone, check_region
from schemas.fields.text import Email, FromSource, KeyText, Text

__all__ = [
    "Date", "Decimals", "Email", "FieldType", "FromSource", "KeyText", "Money", "Number", "Phone", "Text", "TextColumn",
    "WholeNumber", "check_region", "decimal_mark",
]  # fmt: skip
