"""The route that adds images to the gallery."""

import hashlib
import time
from collections.abc import Sequence
from functools import partial
from typing import Annotated, Literal, cast

import anyio.to_thread
from fastapi import APIRouter, Depends, Query, Request, Response
from pydantic import Field
from starlette.datastructures import UploadFile

from indexer.records import StoredScene
from indexer.rows.replies import Reply
from models.errors import ImageTooLargeError, PersonSearchError
from service.http.auth import authorize, route_scope
from service.http.bodies import (
    Form,
    deadline_of,
    parse_json,
    read_form,
    refuse_unknown_parameters,
    while_connected,
)
from service.http.edge import logger, request_id
from service.http.errors import PROBLEMS, AllItemsFailedError, DeadlineError, RequestError, problem
from service.http.fields import ModelOfIndex, index_of
from service.http.idempotency import (
    KEY_PARAMETER,
    JsonAnswer,
    KeyedRequest,
    digest_of,
    fingerprint_of,
)
from service.http.openapi import body, multipart_body, reference
from service.images.jobs import add_image, spooled_name
from service.images.schemas import (
    MAX_ATTRIBUTES,
    AddedImage,
    AddedImages,
    FailedImage,
    ImageMetadata,
    UploadQuery,
    check_metadata_size,
    image_record,
)
from service.jobs.accepting import accept
from service.jobs.schemas import AcceptedJob
from service.running.dependencies import PartsOf, run_in_lane
from service.running.detectors import TimedDetector
from service.running.parts import Parts
from service.running.worker import Lane

FILE_NAME = "file"  # the attribute
MAX_FILE_NAME = 255

router = APIRouter(dependencies=[Depends(authorize), Depends(refuse_unknown_parameters)])
IMAGES_BODY = multipart_body(
    32,
    "metadata",
    {
        "anyOf": [
            reference("ImageMetadata"),
            {"type": "array", "items": reference("ImageMetadata"), "maxItems": 32},
        ],
        "contentMediaType": "application/json",
    },
)


@router.post(
    "/gallery/images",
    summary="Add images to the gallery",
    status_code=201,
    response_model=AddedImage | AddedImages,
    response_model_exclude_unset=True,
    responses={
        200: {"model": AddedImage | AddedImages, "description": "Stored before, or many"},
        202: {"model": AcceptedJob, "description": "Not waited for"},
    },
    openapi_extra=route_scope("ingest") | body(IMAGES_BODY) | {"parameters": [KEY_PARAMETER]},
)
async def add_images(
    request: Request, query: Annotated[UploadQuery, Query()], parts: PartsOf
) -> Response:
    """One new file: 201. Stored before, byte for byte: 200 and the record. Several files: 200 and
    one entry for each, in order; if one fails, the others are still added. An image in which nobody
    is found is stored like any other, with an empty list of detections. Once you have the answer,
    the image is on disk and every new search finds it.

    With `wait=false`: 202 and a job that adds the files, even if the service is restarted.
    """
    settings = parts.settings
    deadline_s = deadline_of(request, settings.ingest_deadline_s)
    ends_at = time.monotonic() + deadline_s
    async with read_form(
        request, document="metadata", max_files=settings.request_max_files, deadline_s=deadline_s
    ) as form:
        metadata = await anyio.to_thread.run_sync(partial(_metadata, form, parts))

        async def add(keyed: KeyedRequest | None) -> JsonAnswer:
            parts.disk.check()
            if not query.wait:
                return await _add_later(request, form, metadata, query.on_duplicate, parts, keyed)
            adding = _add_all(request, form, metadata, query.on_duplicate, parts, ends_at, keyed)
            return _added(await while_connected(request, adding), request)

        return await parts.idempotency.answer_once(
            request, partial(_fingerprint, request, form), add
        )


def _fingerprint(request: Request, form: Form) -> str:
    """Of the whole request. File names are left out: they only go into an attribute."""
    contents = [("metadata", hashlib.sha256(form.document or b"").digest())]
    contents += [("image", digest_of(upload.file)) for upload in form.images]
    return fingerprint_of(request, contents)


async def _add_later(
    request: Request,
    form: Form,
    metadata: Sequence[ImageMetadata],
    on_duplicate: str,
    parts: Parts,
    keyed: KeyedRequest | None,
) -> JsonAnswer:
    arguments = {
        "metadata": [about.model_dump(mode="json") for about in metadata],
        "on_duplicate": on_duplicate,
    }
    files = {spooled_name(number): upload.file for number, upload in enumerate(form.images)}
    return await accept(request, parts, keyed, "ingest", arguments, files=files)


async def _add_all(
    request: Request,
    form: Form,
    metadata: Sequence[ImageMetadata],
    on_duplicate: str,
    parts: Parts,
    ends_at: float,
    keyed: KeyedRequest | None,
) -> list[AddedImage | PersonSearchError]:
    # The answer to several files is stored once all have been dealt with.
    keyed = keyed if len(form.images) == 1 else None
    results: list[AddedImage | PersonSearchError] = []
    for upload, about in zip(form.images, metadata, strict=True):
        try:
            remaining_s = ends_at - time.monotonic()
            adding = _add_one(upload, about, on_duplicate, parts, remaining_s, keyed)
            results.append(await adding)
        except PersonSearchError as error:
            results.append(error)
        except Exception:  # a fault of ours, too, is of one file and not its neighbours
            if len(form.images) == 1:
                raise
            logger.exception("request %s: a file failed", request_id(request))
            results.append(RequestError("internal", ""))
    return results


def _added(results: Sequence[AddedImage | PersonSearchError], request: Request) -> JsonAnswer:
    """The answer once all files have been dealt with.

    Raises:
        PersonSearchError: none of them was added.
    """
    errors = [result for result in results if isinstance(result, PersonSearchError)]
    retryable = [PROBLEMS[error.code].retryable for error in errors]
    if errors and (len(results) == 1 or (len(errors) == len(results) and all(retryable))):
        raise errors[-1]
    if len(results) == 1:
        added = cast(AddedImage, results[0])
        if added.status == "created":
            return _created(added)
        return JsonAnswer(200, added.model_dump(mode="json", exclude_unset=True))
    entries = [_entry(result, request) for result in results]
    if len(errors) == len(results):
        raise AllItemsFailedError(
            f"All {len(results)} files failed; see results.",
            [entry.model_dump(mode="json") for entry in entries],
        )
    content = AddedImages(results=entries).model_dump(mode="json", exclude_unset=True)
    return JsonAnswer(200, content, replay=not any(retryable))


def _created(added: AddedImage) -> JsonAnswer:
    """The answer to one new file; it is stored in the image's transaction."""
    content = added.model_dump(mode="json", exclude_unset=True)
    return JsonAnswer(201, content, {"Location": f"/gallery/images/{added.id}"}, stored=True)


async def _add_one(
    upload: UploadFile,
    about: ImageMetadata,
    on_duplicate: str,
    parts: Parts,
    remaining_s: float,
    keyed: KeyedRequest | None,
) -> AddedImage:
    """Add a file.

    Args:
        keyed: the answer to a new image is stored under its key, in the image's transaction.
    """
    limit = parts.settings.image_max_bytes
    if (upload.size or 0) > limit:
        raise ImageTooLargeError(
            f"{upload.size} bytes; the limit is {limit}.", limits={"max_bytes": limit}
        )
    if remaining_s <= 0:
        raise DeadlineError("No time was left for this file.")
    detector = TimedDetector(parts.detector)
    queued_at = time.monotonic()
    created: list[AddedImage] = []

    def add() -> AddedImage:
        started_at = time.monotonic()

        def record(scene: StoredScene, status: Literal["created", "duplicate"]) -> AddedImage:
            run_ms = (time.monotonic() - started_at) * 1e3
            return AddedImage(
                **image_record(scene),
                status=status,
                index=ModelOfIndex(**index_of(parts.gallery.view())),
                timings_ms=detector.timings((started_at - queued_at) * 1e3, run_ms),
            )

        def reply(scene: StoredScene) -> Reply:
            assert keyed is not None
            created.append(record(scene, "created"))
            return keyed.reply(_created(created[-1]).response())

        content = upload.file.read()
        added = add_image(parts, content, about, detector, reply=None if keyed is None else reply)
        if added.created and created:
            return created[-1]
        return record(added.scene, "created" if added.created else "duplicate")

    added = (await run_in_lane(parts, Lane.INGEST, add, remaining_s)).value
    if added.status == "duplicate" and on_duplicate == "error":
        raise RequestError("duplicate_image", f"The same bytes are stored as {added.id}.")
    return added


def _metadata(form: Form, parts: Parts) -> list[ImageMetadata]:
    """The metadata of each image, from the form's part."""
    count = len(form.images)
    if not count:
        raise RequestError(
            "validation_failed", "/image: send at least one file: curl -F image=@picture.jpg"
        )
    limit = parts.settings.metadata_max_bytes
    if form.document is None:
        return [_with_file_name(ImageMetadata(), each, limit) for each in form.images]
    if form.document.lstrip()[:1] == b"[":
        many = Annotated[list[ImageMetadata], Field(max_length=count)]
        metadata = parse_json(many, form.document)
    else:
        metadata = [parse_json(ImageMetadata, form.document)]
    if len(metadata) != count:
        raise RequestError(
            "validation_failed",
            f"/metadata: {count} images were sent, but metadata for {len(metadata)}.",
        )
    for about in metadata:
        check_metadata_size(about, limit)
    return [
        _with_file_name(about, each, limit)
        for about, each in zip(metadata, form.images, strict=True)
    ]


def _with_file_name(about: ImageMetadata, upload: UploadFile, limit: int) -> ImageMetadata:
    """With the file's name as the attribute "file", where that is free and there is room."""
    name = "".join(each for each in upload.filename or "" if each.isprintable())[-MAX_FILE_NAME:]
    if not name or FILE_NAME in about.attributes or len(about.attributes) >= MAX_ATTRIBUTES:
        return about
    named = about.model_copy(update={"attributes": {**about.attributes, FILE_NAME: name}})
    try:
        check_metadata_size(named, limit)
    except RequestError:
        return about
    return named


def _entry(result: AddedImage | PersonSearchError, request: Request) -> AddedImage | FailedImage:
    if isinstance(result, AddedImage):
        return result
    document = problem(result, instance=request.url.path, request_id=request_id(request))
    return FailedImage(status="failed", problem=document)
