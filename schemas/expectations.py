"""The words that tell people what a field takes, who correct a record."""

from schemas.dataset import Dataset, DatasetField
from schemas.fields import Date, Email, FieldType, FromSource, Number, Phone, Text, WholeNumber


def expectation(field: DatasetField, dataset: Dataset) -> str:
    """A line such as `e-mail address, at most 255 characters; required; no two records share it`. Pure."""
    parts = [_form(field.type)]
    if isinstance(field.type, FromSource):
        parts.append("the source gives it")
    elif field.default is not None:
        parts.append(f"{field.default} if absent")
    else:
        parts.append("required" if field.required else "may be absent")
    if field.name in dataset.key:
        parts.append("part of the key" if len(dataset.key) > 1 else "the key")
    if field.name in dataset.unique:
        parts.append("no two records share it")
    return "; ".join(parts)


def _form(kind: FieldType) -> str:
    match kind:
        case Email():
            return f"e-mail address, at most {kind.max_length} characters"
        case Phone():
            return "telephone number with its country code" if kind.region is None else "telephone number"
        case Date():
            return "date, best as 2024-01-31"
        case WholeNumber():
            return f"whole number from {kind.minimum:,} to {kind.maximum:,}"
        case Number():
            least = "" if kind.minimum is None else f", at least {kind.minimum}"
            exact = "at most" if kind.exact else "rounded to"
            return f"number{least}, {kind.digits} digits, {exact} {kind.places} after the point"
        case FromSource() | Text():
            return "text" if kind.max_length is None else f"text, at most {kind.max_length} characters"
    return kind.json_type
