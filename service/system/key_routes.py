"""The routes about API keys."""

from typing import Any

import anyio.to_thread
from fastapi import APIRouter, Depends, Request, Response

from service.http.auth import authorize, route_scope
from service.http.bodies import deadline_of, read_json, refuse_unknown_parameters
from service.http.keys import StoredKey, new_key_id
from service.http.openapi import body, json_body
from service.running.dependencies import PartsOf
from service.system.schemas import KeyList, KeyRecord, KeyRequest, MadeKey

router = APIRouter(dependencies=[Depends(authorize), Depends(refuse_unknown_parameters)])

BODIES = (KeyRequest,)


@router.post(
    "/keys",
    summary="Make an API key",
    status_code=201,
    response_model=MadeKey,
    openapi_extra=route_scope("admin")
    | body(json_body("KeyRequest", example={"name": "gate-camera", "scopes": ["ingest"]})),
)
async def make_key(request: Request, response: Response, parts: PartsOf) -> MadeKey:
    """The secret is only in this answer: the service keeps just a hash of it. The key works at
    once. The first key of a service comes from its settings.
    """
    wanted = await read_json(
        request, KeyRequest, deadline_s=deadline_of(request, parts.settings.search_deadline_s)
    )

    def make() -> tuple[StoredKey, str]:
        id, scopes = new_key_id(), sorted(set(wanted.scopes))
        made = parts.keys.make(id, wanted.name, scopes)
        parts.gallery.trail.note("key_made", id, scopes=scopes)
        return made

    made, secret = await anyio.to_thread.run_sync(make)
    response.headers["Cache-Control"] = "no-store"
    return MadeKey(**_fields(made), secret=secret)


@router.get(
    "/keys", summary="List API keys", response_model=KeyList, openapi_extra=route_scope("admin")
)
def list_keys(parts: PartsOf) -> KeyList:
    """Names and scopes; secrets cannot be read."""
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
    """New requests cannot use it any more."""
    parts.keys.remove(key_id)
    parts.gallery.trail.note("key_deleted", key_id)


def _fields(stored: StoredKey) -> dict[str, Any]:
    return {
        "id": stored.id,
        "name": stored.key.name,
        "scopes": _scopes(stored.key.scopes),
        "created_at": stored.created_at,
    }


def _scopes(scopes: frozenset[str]) -> Any:
    return sorted(scopes)
