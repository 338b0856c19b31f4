"""Users: written by requests to the API, `POST /users/`. One per e-mail address, whatever its case."""

from typing import Annotated

from pydantic import BaseModel

from schemas.dataset import Dataset
from schemas.fields import Email, Text


class User(BaseModel):
    """A user as it is stored and served."""

    name: Annotated[str, Text(200, search=True)]
    email: Annotated[str, Email(255, search=True)]
    role: Annotated[str, Text(50, search=True)]


DATASET = Dataset(
    name="users",
    model=User,
    key=("email",),
    table="users",
    personal=("name",),
    written_by="api",
    example={"name": "Ada Lovelace", "email": "ada@example.org", "role": "admin"},
)
