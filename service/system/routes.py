"""The routes about the service itself: health, metrics, version, documentation."""

import html
import platform
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as version_of
from typing import Any

from fastapi import APIRouter, Depends, Request, Response
from fastapi.responses import FileResponse, HTMLResponse, JSONResponse
from prometheus_client import CONTENT_TYPE_LATEST

from service.http.auth import PUBLIC, authorize, route_scope
from service.http.errors import PROBLEMS, RequestError
from service.http.web import PAGE_HEADERS, asset_file, page_file
from service.running.dependencies import PartsOf

router = APIRouter(dependencies=[Depends(authorize)])


@router.get("/livez", summary="Is the process alive?", openapi_extra=route_scope(PUBLIC))
async def livez() -> dict[str, bool]:
    """Any answer means yes."""
    return {"alive": True}


@router.get(
    "/readyz",
    summary="Can requests be answered?",
    openapi_extra=route_scope(PUBLIC),
    responses={503: {"description": "Not now; checks say why."}},
)
def readyz(parts: PartsOf) -> Response:
    """200 if the model is loaded, the index is up to date and the disk has space; otherwise 503."""
    checks = parts.health.checks()
    ready = all(check["ok"] for check in checks.values())
    return JSONResponse({"ready": ready, "checks": checks}, 200 if ready else 503)


@router.get("/health", summary="How is the service?", openapi_extra=route_scope(PUBLIC))
def health(parts: PartsOf) -> dict[str, Any]:
    """Always 200, for people and dashboards. Load balancers should ask /readyz."""
    checks = parts.health.checks()
    return {
        "status": "ok" if all(check["ok"] for check in checks.values()) else "degraded",
        "version": service_version(),
        "uptime_s": round(parts.health.uptime_s, 1),
        "checks": checks,
        "retention": parts.caretaker.state(),
        "quarantine": parts.health.quarantine(),
    }


@router.get(
    "/metrics",
    summary="Prometheus metrics",
    response_class=Response,
    responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}},
    openapi_extra=route_scope("metrics"),
)
def metrics(parts: PartsOf) -> Response:
    """As text. Where API keys are used, this needs the scope metrics."""
    return Response(parts.metrics.text(), media_type=CONTENT_TYPE_LATEST)


@router.get("/version", summary="Versions and limits", openapi_extra=route_scope(PUBLIC))
async def version(parts: PartsOf) -> dict[str, Any]:
    """Versions, the model, and how large requests may be."""
    settings, card = parts.settings, parts.detector.card
    limits = {
        name: value
        for name, value in settings
        if isinstance(value, int | float) and name not in ("port", "threads")
    }
    return {
        "service": service_version(),
        "python": platform.python_version(),
        "model": {
            "name": card.name,
            "sha256": card.fingerprint,
            "head": card.head,
            "backbone": card.backbone,
            "embedding_dim": card.embedding_dim,
        },
        "engine": settings.engine,
        "limits": limits,
    }


@router.get(
    "/openapi.json", summary="This interface, as OpenAPI", openapi_extra=route_scope(PUBLIC)
)
async def openapi(request: Request) -> dict[str, Any]:
    """OpenAPI 3.1."""
    schema: dict[str, Any] = request.app.openapi()
    return schema


@router.get(
    "/docs",
    summary="This interface, for people",
    response_class=HTMLResponse,
    openapi_extra=route_scope(PUBLIC),
)
async def docs() -> FileResponse:
    """A page that shows /openapi.json; it loads nothing from elsewhere."""
    return page_file("docs.html")


@router.get("/docs/assets/{name}", include_in_schema=False, openapi_extra=route_scope(PUBLIC))
async def asset(name: str) -> FileResponse:
    return asset_file(name)


@router.get(
    "/docs/problems/{code}",
    summary="What a problem means",
    response_class=HTMLResponse,
    openapi_extra=route_scope(PUBLIC),
)
async def problem_page(code: str) -> HTMLResponse:
    """For each `code` of a problem document."""
    kind = PROBLEMS.get(code)
    if kind is None:
        raise RequestError("not_found", "There is no such problem.")
    retry = "The same request may succeed later." if kind.retryable else "Do not repeat it as is."
    return HTMLResponse(
        "<!doctype html><html lang=en><meta charset=utf-8>"
        "<link rel=stylesheet href=../assets/docs.css>"
        f"<title>{html.escape(code)}</title><main><h1>{html.escape(kind.title)}</h1>"
        f"<p><code>{html.escape(code)}</code>, status {kind.status}</p>"
        f"<p>{html.escape(kind.help)}</p><p>{retry}</p>"
        "<p><a href=../../docs>All routes</a></p></main></html>",
        headers=PAGE_HEADERS,
    )


def service_version() -> str:
    """Version of the installed package; "unknown" when it runs from a folder."""
    try:
        return version_of("nae-search")
    except PackageNotFoundError:
        return "unknown"
