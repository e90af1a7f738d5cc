"""Who may use which route. A route names its scope once, in its OpenAPI entry."""

from typing import Any, cast

from fastapi import Request
from fastapi.routing import APIRoute

from indexer.rows.audit import act_as
from service.http.errors import RequestError
from service.http.keys import Keys
from service.settings import SCOPES, ApiKey

PUBLIC = "public"
SCOPE_FIELD = "x-required-scope"


def route_scope(scope: str) -> dict[str, Any]:
    """What a route puts into its `openapi_extra`."""
    assert scope in (*SCOPES, PUBLIC)
    security: list[dict[str, list[str]]] = [] if scope == PUBLIC else [{"key": []}]
    return {SCOPE_FIELD: scope, "security": security}


async def authorize(request: Request) -> None:
    """Let a request pass when its key allows the route's scope; runs before anything is read.

    The audit trail names the key for what the request does. (Async, so that the name is set in the
    request's own context.)

    Raises:
        RequestError: unauthenticated or insufficient_scope.
    """
    route = cast(APIRoute, request.scope["route"])
    check_scope(request, (route.openapi_extra or {})[SCOPE_FIELD])
    act_as(key_name(request))


def check_scope(request: Request, scope: str) -> None:
    """Check a scope that depends on the request, as `authorize` does.

    Raises:
        RequestError: unauthenticated or insufficient_scope.
    """
    keys: Keys = request.app.state.parts.keys
    if scope == PUBLIC or not keys.needed:
        return
    key = key_of(request)
    if key is None:
        raise RequestError("unauthenticated", "Send Authorization: Bearer with a valid secret.")
    if not key.allows(scope):
        raise RequestError("insufficient_scope", f"The key does not have the scope {scope}.")
    request.state.api_key = key


def key_of(request: Request) -> ApiKey | None:
    """The API key whose secret a request carries; None without a known one."""
    kind, _, secret = request.headers.get("authorization", "").partition(" ")
    keys: Keys = request.app.state.parts.keys
    return keys.find(secret.strip()) if kind.lower() == "bearer" else None


def key_name(request: Request) -> str | None:
    """The name of the API key that a request came with, once it is authorized; None without one."""
    key: ApiKey | None = getattr(request.state, "api_key", None)
    return None if key is None else key.name


def key_owner(request: Request) -> str | None:
    """The same, told from other keys that had or will have this name: ApiKey.owner."""
    key: ApiKey | None = getattr(request.state, "api_key", None)
    return None if key is None else key.owner


def own_jobs_of(request: Request) -> str | None:
    """Whose jobs a caller may see: those of an ApiKey.owner, or None for all.

    A key with scope admin sees all of them, and so does everyone where there are no keys.
    """
    key: ApiKey | None = getattr(request.state, "api_key", None)
    return None if key is None or key.allows("admin") else key.owner
