"""The page to search with: its files, and what it has to know to begin."""

from pathlib import Path
from typing import Any

from fastapi import APIRouter, Depends, Request
from fastapi.responses import FileResponse, HTMLResponse
from pydantic import Field

from indexer.database.overview import Overview
from service.http.auth import PUBLIC, authorize, key_of, route_scope
from service.http.bodies import refuse_unknown_parameters
from service.http.errors import RequestError
from service.images.routes import PartsOf
from service.images.schemas import Schema, Time
from service.settings import SCOPES

WEB = Path(__file__).parent.parent / "web"
MEDIA_TYPES = {".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}
ASSETS = {
    file.name: MEDIA_TYPES[file.suffix] for file in WEB.iterdir() if file.suffix in MEDIA_TYPES
}
# Own scripts and styles only, no other host, nothing inline. Pictures that need a key are fetched
# with it and shown as blobs.
PAGE_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
        "img-src 'self' blob: data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Cache-Control": "no-cache",
}

router = APIRouter(dependencies=[Depends(authorize)])


class Caller(Schema):
    """Who asks, and what they may do."""

    keys: bool = Field(description="Whether this service has API keys. Without, all may do all.")
    name: str | None = Field(description="Of the API key; null without one.")
    scopes: list[str] = Field(description="All that it allows: admin allows everything.")


class Camera(Schema):
    """The images of one camera; null is images without one."""

    camera_id: str | None
    images: int
    first_captured_at: Time | None
    last_captured_at: Time | None


class TagCount(Schema):
    """How many images have a tag."""

    tag: str
    images: int


class GalleryRecord(Schema):
    """What the gallery holds. Lists have at most 1000 entries."""

    images: int
    detections: int = Field(description="Of the generation that answers.")
    labelled: int = Field(description="How many of these detections have a label.")
    labels: int = Field(description="How many different labels they have.")
    cameras: list[Camera] = Field(description="By name.")
    tags: list[TagCount] = Field(description="Those of most images first.")

    @classmethod
    def of(cls, found: Overview) -> "GalleryRecord":
        """As the gallery has it."""
        return cls(
            images=found.scenes,
            detections=found.detections,
            labelled=found.labelled,
            labels=found.people,
            cameras=[
                Camera(
                    camera_id=one.camera_id,
                    images=one.scenes,
                    first_captured_at=one.first_captured_at,
                    last_captured_at=one.last_captured_at,
                )
                for one in found.cameras
            ],
            tags=[TagCount(tag=tag, images=count) for tag, count in found.tags],
        )


@router.get(
    "/",
    summary="A page to search with",
    response_class=HTMLResponse,
    openapi_extra=route_scope(PUBLIC),
)
async def page() -> FileResponse:
    """For people; it loads nothing from elsewhere."""
    return FileResponse(WEB / "index.html", media_type="text/html", headers=PAGE_HEADERS)


@router.get("/assets/{name}", include_in_schema=False, openapi_extra=route_scope(PUBLIC))
async def asset(name: str) -> FileResponse:
    if name not in ASSETS:
        raise RequestError("not_found", "There is no such file.")
    return FileResponse(WEB / name, media_type=ASSETS[name], headers={"Cache-Control": "no-cache"})


@router.get(
    "/whoami",
    summary="What may I do?",
    response_model=Caller,
    dependencies=[Depends(refuse_unknown_parameters)],
    openapi_extra=route_scope(PUBLIC),
)
async def whoami(request: Request, parts: PartsOf) -> Any:
    """Where keys are needed, no or a wrong one has no name and no scopes."""
    if not parts.keys.any:
        return Caller(keys=False, name=None, scopes=list(SCOPES))
    key = key_of(request)
    if key is None:
        return Caller(keys=True, name=None, scopes=[])
    return Caller(keys=True, name=key.name, scopes=[one for one in SCOPES if key.allows(one)])


@router.get(
    "/gallery",
    summary="What is in the gallery?",
    response_model=GalleryRecord,
    dependencies=[Depends(refuse_unknown_parameters)],
    openapi_extra=route_scope("search"),
)
def gallery_overview(parts: PartsOf) -> Any:
    """How many images, people, labels; which cameras and tags."""
    return GalleryRecord.of(parts.gallery.overview())
