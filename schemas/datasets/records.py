"""Records: any JSON API, CSV or feed, brought into one shape by its source's field mapping."""

from decimal import Decimal
from typing import Annotated

from pydantic import BaseModel

from schemas.dataset import Dataset
from schemas.fields import FromSource, Number, Text


class NormalizedRecord(BaseModel):
    """A record of some source as it is stored and served. `source` is the kind, `source_name` the block."""

    source: Annotated[str, FromSource("kind")]
    source_name: Annotated[str, FromSource("name")]
    source_id: Annotated[str, Text(200)]
    name: Annotated[str, Text(500, search=True)]
    value: Annotated[Decimal | None, Number(42, 4, most_places=38)] = None
    description: Annotated[str | None, Text(search=True)] = None


DATASET = Dataset(
    name="records",
    model=NormalizedRecord,
    key=("source_name", "source_id"),
    table="normalized_data",
    personal=("name", "description"),  # whatever a source says of whomever
    serial_id=True,
    example={
        "source": "csv",
        "source_name": "titanic",
        "source_id": 17,
        "name": "Rice, Master. Eugene",
        "value": 29.125,
    },
)
