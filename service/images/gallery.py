"""The routes about stored images: list, look at, change, delete."""

import hashlib
from functools import partial
from typing import Annotated, Any, cast

import anyio.to_thread
from fastapi import APIRouter, Depends, Query, Request, Response

from indexer.errors import SceneNotFoundError
from indexer.records import StoredScene
from service.http.auth import authorize, check_scope, route_scope
from service.http.bodies import check, deadline_of, read_json, refuse_unknown_parameters
from service.http.errors import RequestError, too_many
from service.http.openapi import FILE, body, json_body
from service.images.pictures import made, picture, thumbnail_jpeg, upright_jpeg
from service.images.schemas import (
    ContentQuery,
    Deleted,
    DeleteImages,
    ImageMetadata,
    ImagePage,
    ImageRecord,
    ListQuery,
    MetadataPatch,
    ThumbnailQuery,
    check_metadata_size,
    image_record,
)
from service.running.dependencies import PartsOf, check_limit

MEDIA_TYPES = {
    "JPEG": "image/jpeg", "PNG": "image/png", "WEBP": "image/webp", "AVIF": "image/avif",
    "HEIF": "image/heic", "BMP": "image/bmp", "TIFF": "image/tiff",
}  # fmt: skip

PATCH_EXAMPLE = {"camera_id": "gate", "tags": ["morning"], "attributes": {"door": "north"}}

router = APIRouter(dependencies=[Depends(authorize), Depends(refuse_unknown_parameters)])


@router.get(
    "/gallery/images",
    summary="List images",
    response_model=ImagePage,
    response_model_exclude_unset=True,
    openapi_extra=route_scope("search"),
)
def list_images(query: Annotated[ListQuery, Query()], parts: PartsOf) -> ImagePage:
    """Oldest first, or newest first."""
    check_limit(query.limit, parts)
    if len(query.camera_id) > parts.settings.filter_max_values:
        raise too_many("/query/camera_id", parts.settings.filter_max_values)
    meant = query.scene_filter()
    page = parts.gallery.scenes.page(
        meant, limit=query.limit, cursor=query.cursor, newest_first=query.order == "newest"
    )
    items = [ImageRecord(**image_record(scene)) for scene in page.scenes]
    counted = {"total": parts.gallery.scenes.count(meant)} if query.count else {}
    return ImagePage(items=items, next_cursor=page.next_cursor, **cast(Any, counted))


@router.post(
    "/gallery/images:delete",
    summary="Delete images by their ids",
    response_model=Deleted,
    openapi_extra=route_scope("ingest")
    | body(json_body("DeleteImages", example={"ids": ["img_01JD5T6Q0Z8W3V7X9Y2K4M6N8P"]})),
)
async def delete_images(request: Request, parts: PartsOf) -> Deleted:
    """Unknown ids are ignored."""
    wanted = await read_json(
        request, DeleteImages, deadline_s=deadline_of(request, parts.settings.ingest_deadline_s)
    )

    def delete() -> int:
        deleted = 0
        for scene_id in wanted.ids:
            try:
                parts.gallery.remove(scene_id)
            except SceneNotFoundError:
                continue
            deleted += 1
        return deleted

    return Deleted(deleted=await anyio.to_thread.run_sync(delete))


@router.get(
    "/gallery/images/{image_id}",
    summary="Get an image's record",
    response_model=ImageRecord,
    openapi_extra=route_scope("search"),
)
def get_image(image_id: str, response: Response, parts: PartsOf) -> ImageRecord:
    """With the people found in it. Send its ETag as If-Match to change it only if nobody else
    has.
    """
    scene = parts.gallery.get(image_id)
    response.headers["ETag"] = etag(scene)
    return ImageRecord(**image_record(scene))


@router.patch(
    "/gallery/images/{image_id}",
    summary="Change an image's metadata",
    response_model=ImageRecord,
    openapi_extra=route_scope("ingest")
    | body(
        json_body("MetadataPatch", "application/merge-patch+json", PATCH_EXAMPLE),
        json_body("MetadataPatch", example=PATCH_EXAMPLE),
    )
    | {
        "parameters": [
            {"name": "If-Match", "in": "header", "schema": {"type": "string"}, "required": False}
        ]
    },
)
async def patch_image(
    image_id: str, request: Request, response: Response, parts: PartsOf
) -> ImageRecord:
    """A merge patch: the fields you send change, null removes one. Filters use the new values at
    once.
    """
    changes = await read_json(
        request, MetadataPatch, deadline_s=deadline_of(request, parts.settings.ingest_deadline_s)
    )
    if_match = request.headers.get("if-match")

    def patch() -> StoredScene:
        with parts.gallery.changing():
            stored = parts.gallery.get(image_id)
            if if_match is not None and not _matches(if_match, etag(stored)):
                raise RequestError("precondition_failed", "The image was changed meanwhile.")
            new = changes.changes(stored)
            kept = {name: getattr(stored, name) for name in ImageMetadata.model_fields}
            check_metadata_size(check(ImageMetadata, kept | new), parts.settings.metadata_max_bytes)
            return parts.gallery.scenes.patch(image_id, new)

    scene = await anyio.to_thread.run_sync(patch)
    response.headers["ETag"] = etag(scene)
    return ImageRecord(**image_record(scene))


@router.delete(
    "/gallery/images/{image_id}",
    summary="Delete an image",
    status_code=204,
    openapi_extra=route_scope("ingest"),
)
def delete_image(image_id: str, parts: PartsOf) -> None:
    """Its record, its file and its detections go; no later search finds them."""
    parts.gallery.remove(image_id)


@router.get(
    "/gallery/images/{image_id}/content",
    summary="Get an image's picture",
    response_class=Response,
    responses={200: {"content": {"image/*": {"schema": FILE}}}},
    openapi_extra=route_scope("search"),
)
async def get_content(
    image_id: str, request: Request, query: Annotated[ContentQuery, Query()], parts: PartsOf
) -> Response:
    """Upright, as JPEG, without EXIF or other metadata; or, for admins, the file as it was sent."""
    if query.original:
        check_scope(request, "admin")
        scene = await anyio.to_thread.run_sync(parts.gallery.get, image_id)

        def read() -> bytes:
            content = parts.gallery.scenes.content(image_id)
            parts.gallery.trail.note("original_read", image_id)
            return content

        media = MEDIA_TYPES.get(scene.format, "application/octet-stream")
        return await made(request, parts, read, media)
    return await picture(request, parts, image_id, upright_jpeg)


@router.get(
    "/gallery/images/{image_id}/thumbnail",
    summary="Get a small picture of an image",
    response_class=Response,
    responses={200: {"content": {"image/jpeg": {"schema": FILE}}}},
    openapi_extra=route_scope("search"),
)
async def get_thumbnail(
    image_id: str, request: Request, query: Annotated[ThumbnailQuery, Query()], parts: PartsOf
) -> Response:
    """A JPEG with sides of at most `size` pixels."""
    return await picture(request, parts, image_id, partial(thumbnail_jpeg, size=query.size))


def etag(scene: StoredScene) -> str:
    """Changes whenever the record does."""
    record = ImageRecord(**image_record(scene)).model_dump_json()
    return f'"{hashlib.sha256(record.encode()).hexdigest()[:32]}"'


def _matches(if_match: str, tag: str) -> bool:
    listed = {each.strip() for each in if_match.split(",")}
    return "*" in listed or tag in listed
