"""The routes about detections: people found in stored images."""

from functools import partial

import anyio.to_thread
from fastapi import APIRouter, Depends, Request, Response

from indexer.records import StoredDetection
from service.http.auth import authorize, route_scope
from service.http.bodies import refuse_unknown_parameters
from service.http.fields import index_of
from service.http.openapi import FILE
from service.images.pictures import crop_jpeg, picture
from service.images.schemas import DetectionRecord, Embedding, ImageDetection
from service.running.dependencies import PartsOf

router = APIRouter(dependencies=[Depends(authorize), Depends(refuse_unknown_parameters)])


@router.get(
    "/gallery/detections/{detection_id}",
    summary="Get a detection's record",
    response_model=DetectionRecord,
    openapi_extra=route_scope("search"),
)
def get_detection(detection_id: str, parts: PartsOf) -> DetectionRecord:
    """Its box, and how sure the model is that it is a person."""
    found = parts.gallery.people.get(detection_id)
    return DetectionRecord(**dict(ImageDetection.of(found)), image_id=found.scene_id)


@router.get(
    "/gallery/detections/{detection_id}/crop",
    summary="Get the picture of a detection",
    response_class=Response,
    responses={200: {"content": {"image/jpeg": {"schema": FILE}}}},
    openapi_extra=route_scope("search"),
)
async def get_crop(detection_id: str, request: Request, parts: PartsOf) -> Response:
    """The part of the image inside its box, as JPEG."""
    found: StoredDetection = await anyio.to_thread.run_sync(parts.gallery.people.get, detection_id)
    return await picture(request, parts, found.scene_id, partial(crop_jpeg, box=found.box))


@router.get(
    "/gallery/detections/{detection_id}/embedding",
    summary="Get a detection's embedding",
    response_model=Embedding,
    openapi_extra=route_scope("admin"),
)
def get_embedding(detection_id: str, parts: PartsOf) -> Embedding:
    """Its length is 1. Compare it only with embeddings of the same model."""
    view = parts.gallery.view()
    embedding = parts.gallery.people.embedding(detection_id, view=view).tolist()
    parts.gallery.trail.note("embedding_read", detection_id)
    return Embedding(detection_id=detection_id, embedding=embedding, **index_of(view))


@router.delete(
    "/gallery/detections/{detection_id}",
    summary="Delete a detection",
    status_code=204,
    openapi_extra=route_scope("ingest"),
)
def delete_detection(detection_id: str, parts: PartsOf) -> None:
    """Removes one person from an image; the image stays."""
    parts.gallery.people.remove(detection_id)
