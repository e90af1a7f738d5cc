"""The routes about API keys."""

from typing import Annotated, Any, Literal

import anyio.to_thread
from fastapi import APIRouter, Depends, Request, Response
from pydantic import Field, StringConstraints

from service.http.auth import authorize, route_scope
from service.http.bodies import read_json, refuse_unknown_parameters
from service.http.keys import StoredKey, new_key_id
from service.images.routes import PartsOf, body, json_body
from service.images.schemas import Schema, Time
from service.settings import KEY_NAME

router = APIRouter(dependencies=[Depends(authorize), Depends(refuse_unknown_parameters)])

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

    secret: str = Field(description="For Authorization: Bearer. It is told only here.")


BODIES = (KeyRequest,)


@router.post(
    "/keys",
    summary="Make an API key",
    status_code=201,
    response_model=MadeKey,
    openapi_extra=route_scope("admin") | body(json_body("KeyRequest")),
)
async def make_key(request: Request, response: Response, parts: PartsOf) -> Any:
    """Its secret is in this answer, and nowhere else: only a hash of it is kept. It counts from now
    on. The first key of a service comes from its settings."""
    wanted = await read_json(request, KeyRequest, deadline_s=parts.settings.search_deadline_s)

    def make() -> tuple[StoredKey, str]:
        id, scopes = new_key_id(), sorted(set(wanted.scopes))
        made = parts.keys.make(id, wanted.name, scopes)
        parts.gallery.note("key_made", id, scopes=scopes)
        return made

    made, secret = await anyio.to_thread.run_sync(make)
    response.headers["Cache-Control"] = "no-store"
    return MadeKey(**_fields(made), secret=secret)


@router.get(
    "/keys", summary="List API keys", response_model=KeyList, openapi_extra=route_scope("admin")
)
def list_keys(parts: PartsOf) -> Any:
    """Names and scopes; nobody can read a secret."""
    given = [
        KeyRecord(id=None, name=one.name, scopes=_scopes(one.scopes), created_at=None)
        for one in parts.keys.given
    ]
    return KeyList(items=[*given, *(KeyRecord(**_fields(one)) for one in parts.keys.stored)])


@router.delete(
    "/keys/{key_id}",
    summary="Delete an API key",
    status_code=204,
    openapi_extra=route_scope("admin"),
)
def delete_key(key_id: str, parts: PartsOf) -> None:
    """Requests that come from now on cannot use it."""
    parts.keys.remove(key_id)
    parts.gallery.note("key_deleted", key_id)


def _fields(stored: StoredKey) -> dict[str, Any]:
    return {
        "id": stored.id,
        "name": stored.key.name,
        "scopes": _scopes(stored.key.scopes),
        "created_at": stored.created_at,
    }


def _scopes(scopes: frozenset[str]) -> Any:
    return sorted(scopes)
