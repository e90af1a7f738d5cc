"""The application: routes, errors and the edge around them, wired to one gallery."""

from collections.abc import AsyncIterator, Sequence
from contextlib import ExitStack, asynccontextmanager
from functools import cache, partial
from typing import Any

import anyio.to_thread
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute
from pydantic.json_schema import models_json_schema
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import JSONResponse
from starlette.routing import compile_path

from models.detector import Detector
from models.errors import PersonSearchError
from service.generations import routes as generations
from service.http.edge import Edge, logger, request_id, route_path
from service.http.errors import PROBLEMS, RequestError, parameter_error, problem, problem_response
from service.http.metrics import Metrics
from service.http.openapi import reference
from service.images import adding, attention, detections, gallery, importing
from service.images.schemas import DeleteImages, ImageMetadata, ImportLine, MetadataPatch
from service.jobs import routes as jobs
from service.kinds import job_kinds
from service.labels import routes as labels
from service.page import routes as page
from service.running.parts import JobKinds, open_parts
from service.search import routes as search
from service.search.schemas import SearchRequest
from service.settings import Settings, SettingsError
from service.system import key_routes
from service.system import routes as system
from service.system.schemas import Problem
from service.upkeep import audit, erasures, index, snapshots
from service.upkeep.schemas import ErasureRequest

# In the order in which /openapi.json lists their routes.
TOPICS = (
    adding,
    gallery,
    detections,
    search,
    importing,
    jobs,
    labels,
    snapshots,
    erasures,
    audit,
    index,
    generations,
    key_routes,
    attention,
    page,
    system,
)
TAGS = {  # what /openapi.json calls them, and clients that are generated from it
    adding: "images",
    gallery: "images",
    detections: "detections",
    search: "search",
    importing: "images",
    jobs: "jobs",
    labels: "labels",
    snapshots: "snapshots",
    erasures: "erasures",
    audit: "audit",
    index: "models",
    generations: "models",
    key_routes: "keys",
    attention: "detections",
    page: "service",
    system: "service",
}
TITLE = "Person search"
DESCRIPTION = """\
Find a person among whole scene images. Boxes are pixels of the upright image (after EXIF), origin
top left, x2 and y2 exclusive. `score` = `detection_score` × `similarity` ranks the hits; it is no
probability. Errors are RFC 9457 problem documents; `/docs/problems/{code}` explains each code."""

CORS_HEADERS = [
    "Authorization",
    "Content-Type",
    "Idempotency-Key",
    "If-Match",
    "X-Request-Id",
    "X-Timeout-Ms",
]
CORS_EXPOSED = ["ETag", "Idempotency-Replayed", "Location", "Retry-After", "X-Request-Id"]


def create_app(
    settings: Settings | None = None,
    detector: Detector | None = None,
    kinds: JobKinds = job_kinds,
    *,
    other_detectors: Sequence[Detector] = (),
) -> FastAPI:
    """The service as an ASGI application.

    Nothing is loaded or opened before the application starts (its lifespan): then the model, unless
    a detector is given, and the gallery, until it stops.

    Args:
        kinds: of jobs that can be run.
        other_detectors: models that the gallery can be changed to, besides those on disk; they
            take a detector beside them.

    Raises:
        SettingsError: what needs no look at files contradicts itself.
    """
    settings = settings or Settings()
    metrics = Metrics()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        with ExitStack() as stack:
            detectors = [] if detector is None else [detector, *other_detectors]
            parts = open_parts(settings, detectors, metrics, kinds)
            app.state.parts = await anyio.to_thread.run_sync(stack.enter_context, parts)
            openapi_document()  # made here, and not by the first request
            yield

    app = FastAPI(
        title=TITLE,
        version=system.service_version(),
        description=DESCRIPTION,
        lifespan=lifespan,
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
    )
    for topic in TOPICS:
        app.include_router(topic.router)
    app.add_middleware(
        Edge,
        metrics=metrics,
        max_body_bytes=settings.request_max_bytes,
        loopback_only=lambda: not app.state.parts.keys.needed,
        origins=settings.cors,
        frame_ancestors=settings.frame_ancestors.replace(",", " "),
        root_path=settings.root_path,
    )
    if settings.cors:  # outside the edge, so that browsers may read its refusals, too
        app.add_middleware(
            CORSMiddleware,
            allow_origins=settings.cors,
            allow_methods=["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"],
            allow_headers=CORS_HEADERS,
            expose_headers=CORS_EXPOSED,
            max_age=600,
        )
    app.add_exception_handler(PersonSearchError, _answer)
    app.add_exception_handler(RequestValidationError, _answer)
    app.add_exception_handler(HTTPException, _answer)
    app.openapi = partial(_openapi, settings.root_path)  # type: ignore[method-assign]
    _check_root_path(settings.root_path)
    return app


async def _answer(request: Request, raised: Exception) -> JSONResponse:
    """Answer any error with a problem document."""
    headers: dict[str, str] = {}
    if isinstance(raised, PersonSearchError):
        error = raised
        kind = PROBLEMS[error.code]
        if kind.status >= 500 and not kind.told:
            logger.error("%s: %s", error.code, error, exc_info=error)
    elif isinstance(raised, RequestValidationError):
        error = parameter_error(raised)
    else:
        assert isinstance(raised, HTTPException)
        error = _routing_error(request, raised.status_code)
    if isinstance(error, RequestError):
        headers = error.headers
    content = problem(error, instance=request.url.path, request_id=request_id(request))
    request.app.state.parts.metrics.problems.labels(error.code).inc()
    return problem_response(content, headers)


def _routing_error(request: Request, status: int) -> RequestError:
    if status == 405:
        methods = _methods(request.app, route_path(request))
        return RequestError(
            "method_not_allowed",
            f"Allowed here: {', '.join(methods)}.",
            headers={"Allow": ", ".join(methods)},
        )
    if status == 404:
        return RequestError("not_found", "There is no such path.")
    return RequestError("malformed_body", "The request cannot be read.")


def _methods(app: FastAPI, path: str) -> list[str]:
    """Methods of all routes on a path."""
    found: set[str] = {"GET"} if path == "/" else set()
    for template, operations in app.openapi()["paths"].items():
        if compile_path(template)[0].match(path):
            found |= {method.upper() for method in operations}
    return sorted(found | ({"HEAD"} if "GET" in found else set()))


def _check_root_path(root_path: str) -> None:
    """
    Raises:
        SettingsError: a path would mean two things.
    """
    if root_path:
        first = root_path.split("/")[1]
        if first in {path.split("/")[1] for path in openapi_document()["paths"]}:
            raise SettingsError(f"root_path: /{first} is a path of the service; take another")


def _openapi(root_path: str) -> dict[str, Any]:
    """The document of a service below a path."""
    return openapi_document() | ({"servers": [{"url": root_path}]} if root_path else {})


@cache
def openapi_document() -> dict[str, Any]:
    """FastAPI's document, with the bodies that routes read themselves, and problems as errors.

    Made once in a process, for no setting changes a route.
    """
    document = get_openapi(
        title=TITLE,
        version=system.service_version(),
        description=DESCRIPTION,
        routes=[route for topic in TOPICS for route in topic.router.routes],
    )
    _, own = models_json_schema(
        [
            (model, "validation")
            for model in (
                DeleteImages,
                ErasureRequest,
                ImageMetadata,
                ImportLine,
                MetadataPatch,
                Problem,
                SearchRequest,
                *labels.BODIES,
                *key_routes.BODIES,
            )
        ],
        ref_template="#/components/schemas/{model}",
    )
    components = document.setdefault("components", {})
    schemas = components.setdefault("schemas", {})
    for name, schema in own["$defs"].items():
        schemas.setdefault(name, schema)
    for unused in ("HTTPValidationError", "ValidationError"):
        schemas.pop(unused, None)
    components["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
    failed = {
        "description": "A problem (RFC 9457)",
        "content": {"application/problem+json": {"schema": reference("Problem")}},
    }
    for topic in TOPICS:
        for route in topic.router.routes:
            assert isinstance(route, APIRoute)
            for method in (route.methods or ()) if route.include_in_schema else ():
                operation = document["paths"][route.path][method.lower()]
                operation["operationId"] = route.name
                operation["tags"] = [TAGS[topic]]
                operation["responses"].pop("422", None)
                operation["responses"]["default"] = failed
    document["tags"] = [{"name": name} for name in dict.fromkeys(TAGS.values())]
    return document
