"""The page to search with: its files, and what it has to know to begin."""

from fastapi import APIRouter, Depends, Request
from fastapi.responses import FileResponse, HTMLResponse

from service.http.auth import PUBLIC, authorize, key_of, route_scope
from service.http.bodies import refuse_unknown_parameters
from service.http.web import asset_file, page_file
from service.page.schemas import Caller, GalleryRecord
from service.running.dependencies import PartsOf
from service.settings import SCOPES

router = APIRouter(dependencies=[Depends(authorize)])


@router.get(
    "/",
    summary="A page to search with",
    response_class=HTMLResponse,
    openapi_extra=route_scope(PUBLIC),
)
async def page() -> FileResponse:
    """For people; it loads nothing from elsewhere."""
    return page_file("index.html")


@router.get("/assets/{name}", include_in_schema=False, openapi_extra=route_scope(PUBLIC))
async def asset(name: str) -> FileResponse:
    return asset_file(name)


@router.get(
    "/whoami",
    summary="What may I do?",
    response_model=Caller,
    dependencies=[Depends(refuse_unknown_parameters)],
    openapi_extra=route_scope(PUBLIC),
)
async def whoami(request: Request, parts: PartsOf) -> Caller:
    """Without a valid key, where one is needed, name and scopes are empty."""
    if not parts.keys.needed:
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
def gallery_overview(parts: PartsOf) -> GalleryRecord:
    """How many images, people, labels; which cameras and tags."""
    return GalleryRecord.of(parts.gallery.scenes.overview())
