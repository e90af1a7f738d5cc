"""What problem documents, and requests and responses about API keys, hold."""

from typing import Annotated, Literal

from pydantic import BaseModel, Field, StringConstraints

from service.http.fields import Schema, Time
from service.images.schemas import AddedImage, FailedImage
from service.settings import KEY_NAME


class ProblemError(Schema):
    """One place that is wrong."""

    pointer: str
    code: str
    message: str


class Problem(BaseModel):
    """RFC 9457 problem details."""

    type: str
    title: str
    status: int
    detail: str
    instance: str
    code: str
    retryable: bool
    request_id: str
    errors: list[ProblemError] | None = None
    limits: dict[str, int] | None = None
    results: list[AddedImage | FailedImage] | None = None


Scope = Literal["search", "ingest", "admin", "metrics"]


class KeyRequest(Schema):
    """A key to make."""

    name: Annotated[str, StringConstraints(pattern=f"^(?:{KEY_NAME.pattern})$")] = Field(
        description="For the audit trail; no other key has it."
    )
    scopes: list[Scope] = Field(
        min_length=1, max_length=4, description="What it may do; admin is everything."
    )


class KeyRecord(Schema):
    """A key, without its secret."""

    id: str | None = Field(description="Null for keys of the settings, which cannot be deleted.")
    name: str
    scopes: list[Scope]
    created_at: Time | None = Field(description="Null for keys of the settings.")


class KeyList(Schema):
    """All keys: those of the settings first, then the others, oldest first."""

    items: list[KeyRecord]


class MadeKey(KeyRecord):
    """A key that was just made."""

    secret: str = Field(description="Send it as Authorization: Bearer. It is shown only here.")
