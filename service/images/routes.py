"""The routes about pictures and people: translate, call, translate back. No arithmetic here."""

import hashlib
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Annotated, Any, BinaryIO, Literal, TypeVar, cast

import anyio.to_thread
from fastapi import APIRouter, Depends, Query, Request, Response
from starlette.datastructures import UploadFile

from indexer.database.replies import Reply
from indexer.errors import SceneNotFoundError
from indexer.ids import new_id
from indexer.records import StoredDetection, StoredScene
from models.detector import Detector
from models.errors import ImageTooLargeError, PersonSearchError
from models.image import read_image
from service.http.auth import authorize, check_scope, route_scope
from service.http.bodies import (
    Form,
    check,
    check_metadata_size,
    deadline_of,
    parse_json,
    read_form,
    read_form_or_json,
    read_json,
    refuse_unknown_parameters,
    while_connected,
)
from service.http.edge import logger
from service.http.errors import (
    PROBLEMS,
    AllItemsFailedError,
    DeadlineError,
    RequestError,
    problem,
)
from service.http.idempotency import (
    KEY_PARAMETER,
    Answer,
    Asked,
    answer_once,
    digest_of,
    fingerprint_of,
)
from service.images.pictures import crop_jpeg, thumbnail_jpeg, upright_jpeg
from service.images.schemas import (
    AddedImage,
    AddedImages,
    Box,
    ContentQuery,
    Deleted,
    DeleteImages,
    DetectedPeople,
    Detection,
    DetectionRecord,
    Embedding,
    Explanation,
    FailedImage,
    Hit,
    ImageDetection,
    ImageMetadata,
    ImagePage,
    ImageRecord,
    ListQuery,
    MetadataPatch,
    Rerank,
    SearchedIndex,
    SearchRequest,
    SearchResponse,
    ThumbnailQuery,
    UploadQuery,
    UsedQuery,
    image_record,
)
from service.jobs.imports import add_image, spooled_name
from service.jobs.requests import accept
from service.jobs.schemas import AcceptedJob
from service.running.parts import Parts, index_of
from service.running.worker import Done, Lane
from service.search.search import now, used_box

MEDIA_TYPES = {"JPEG": "image/jpeg", "PNG": "image/png", "WEBP": "image/webp", "AVIF": "image/avif"}
PICTURE_HEADERS = {
    "Cache-Control": "private, no-cache",
    "Content-Security-Policy": "sandbox; default-src 'none'",
    "Content-Disposition": "inline",
}
T = TypeVar("T")
FILE = {"type": "string", "contentMediaType": "application/octet-stream"}

router = APIRouter(dependencies=[Depends(authorize), Depends(refuse_unknown_parameters)])


def the_parts(request: Request) -> Parts:
    """What the running service is made of."""
    return cast(Parts, request.app.state.parts)


PartsOf = Annotated[Parts, Depends(the_parts)]


def multipart_body(images: int, document: str | None = None, schema: Any = None) -> dict[str, Any]:
    """The OpenAPI media type of a form with up to so many `image` files and a JSON part."""
    image: dict[str, Any] = (
        FILE
        if images == 1
        else {"anyOf": [FILE, {"type": "array", "items": FILE, "minItems": 1, "maxItems": images}]}
    )
    properties = {"image": image, **({document: schema} if document else {})}
    required = ["image"] if document != "request" else []
    form = {"type": "object", "properties": properties, "required": required}
    return {"multipart/form-data": {"schema": form}}


def reference(name: str) -> dict[str, str]:
    """A reference to a schema of the OpenAPI document."""
    return {"$ref": f"#/components/schemas/{name}"}


def json_body(name: str, media: str = "application/json") -> dict[str, Any]:
    """The OpenAPI media type of a JSON body."""
    return {media: {"schema": reference(name)}}


def body(*contents: dict[str, Any]) -> dict[str, Any]:
    """The OpenAPI part of a route that reads its own body."""
    merged = {media: schema for content in contents for media, schema in content.items()}
    return {"requestBody": {"required": True, "content": merged}}


IMAGES_BODY = multipart_body(
    32,
    "metadata",
    {
        "anyOf": [
            reference("ImageMetadata"),
            {"type": "array", "items": reference("ImageMetadata")},
        ],
        "contentMediaType": "application/json",
    },
)


# --- adding


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
) -> Any:
    """One new file: 201. Stored before, byte for byte: 200 and the record. Several files: 200
    and one entry for each, in order; a failed file does not disturb its neighbours. An image in
    which nobody is found is stored like any other, with an empty list of detections. When the
    answer is here, the image is on disk and every search that starts now sees it.

    With `wait=false`: 202 and a job, which adds the files; it is done whatever happens to the
    service meanwhile."""
    settings = parts.settings
    deadline_s = deadline_of(request, settings.ingest_deadline_s)
    ends_at = time.monotonic() + deadline_s
    async with read_form(
        request, document="metadata", max_files=settings.request_max_files, deadline_s=deadline_s
    ) as form:
        metadata = await anyio.to_thread.run_sync(partial(_metadata, form, parts))

        async def add(asked: Asked | None) -> Answer:
            parts.check_disk()
            if not query.wait:
                return await _add_later(request, form, metadata, query.on_duplicate, parts, asked)
            adding = _add_all(request, form, metadata, query.on_duplicate, parts, ends_at, asked)
            return _added(await while_connected(request, adding), request)

        return await answer_once(request, parts, partial(_fingerprint, request, form), add)


def _fingerprint(request: Request, form: Form) -> str:
    """Of the whole request; file names do not count, for they are not used."""
    contents = [("metadata", hashlib.sha256(form.document or b"").digest())]
    contents += [("image", digest_of(upload.file)) for upload in form.images]
    return fingerprint_of(request, contents)


async def _add_later(
    request: Request,
    form: Form,
    metadata: Sequence[ImageMetadata],
    on_duplicate: str,
    parts: Parts,
    asked: Asked | None,
) -> Answer:
    arguments = {
        "metadata": [about.model_dump(mode="json") for about in metadata],
        "on_duplicate": on_duplicate,
    }
    files = {spooled_name(number): upload.file for number, upload in enumerate(form.images)}
    return await accept(request, parts, asked, "ingest", arguments, files=files)


async def _add_all(
    request: Request,
    form: Form,
    metadata: Sequence[ImageMetadata],
    on_duplicate: str,
    parts: Parts,
    ends_at: float,
    asked: Asked | None,
) -> list[AddedImage | PersonSearchError]:
    # The answer to several files is kept once all have been dealt with.
    asked = asked if len(form.images) == 1 else None
    results: list[AddedImage | PersonSearchError] = []
    for upload, about in zip(form.images, metadata, strict=True):
        try:
            remaining_s = ends_at - time.monotonic()
            adding = _add_one(upload, about, on_duplicate, parts, remaining_s, asked)
            results.append(await adding)
        except PersonSearchError as error:
            results.append(error)
        except Exception:  # a fault of ours, too, is of one file and not its neighbours
            if len(form.images) == 1:
                raise
            logger.exception("request %s: a file failed", request_id(request))
            results.append(RequestError("internal", ""))
    return results


def _added(results: Sequence[AddedImage | PersonSearchError], request: Request) -> Answer:
    """What is answered when all files have been dealt with.

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
        return Answer(200, added.model_dump(mode="json", exclude_unset=True))
    entries = [_entry(result, request) for result in results]
    if len(errors) == len(results):
        raise AllItemsFailedError(
            f"All {len(results)} files failed; see results.",
            [entry.model_dump(mode="json") for entry in entries],
        )
    content = AddedImages(results=entries).model_dump(mode="json", exclude_unset=True)
    return Answer(200, content, keep=not any(retryable))


def _created(added: AddedImage) -> Answer:
    """What is answered to one new file; it is kept together with the image."""
    content = added.model_dump(mode="json", exclude_unset=True)
    return Answer(201, content, {"Location": f"/gallery/images/{added.id}"}, kept=True)


async def _add_one(
    upload: UploadFile,
    about: ImageMetadata,
    on_duplicate: str,
    parts: Parts,
    remaining_s: float,
    asked: Asked | None,
) -> AddedImage:
    """Add a file.

    Args:
        asked: the answer to a new image is kept under this key, in the image's transaction.
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
                index=cast(Any, parts.index),
                timings_ms=detector.timings((started_at - queued_at) * 1e3, run_ms),
            )

        def reply(scene: StoredScene) -> Reply:
            assert asked is not None
            created.append(record(scene, "created"))
            return asked.reply(_created(created[-1]).response())

        content = upload.file.read()
        added = add_image(parts, content, about, detector, reply=None if asked is None else reply)
        if added.created and created:
            return created[-1]
        return record(added.scene, "created" if added.created else "duplicate")

    added = (await run_in_lane(parts, Lane.INGEST, add, remaining_s)).value
    if added.status == "duplicate" and on_duplicate == "error":
        raise RequestError("duplicate_image", f"The same bytes are stored as {added.id}.")
    return added


def _metadata(form: Form, parts: Parts) -> list[ImageMetadata]:
    """What the metadata part says, for each image."""
    count = len(form.images)
    if not count:
        raise RequestError(
            "validation_failed", "/image: send at least one file: curl -F image=@picture.jpg"
        )
    if form.document is None:
        return [ImageMetadata()] * count
    if form.document.lstrip()[:1] == b"[":
        metadata = parse_json(list[ImageMetadata], form.document)
    else:
        metadata = [parse_json(ImageMetadata, form.document)]
    if len(metadata) != count:
        raise RequestError(
            "validation_failed",
            f"/metadata: {count} images were sent, but metadata for {len(metadata)}.",
        )
    for about in metadata:
        check_metadata_size(about, parts.settings.metadata_max_bytes)
    return cast(list[ImageMetadata], metadata)


def _entry(result: AddedImage | PersonSearchError, request: Request) -> AddedImage | FailedImage:
    if isinstance(result, AddedImage):
        return result
    document = problem(result, instance=request.url.path, request_id=request_id(request))
    return FailedImage(status="failed", problem=document)


class TimedDetector:
    """A detector that remembers when it ran."""

    def __init__(self, detector: Detector) -> None:
        self.card = detector.card
        self.embed = detector.embed
        self.embed_crop = detector.embed_crop
        self._detector = detector
        self._times: list[float] = []

    def detect(self, images: Sequence[Any]) -> list[Any]:
        """As the detector does."""
        self._times.append(time.monotonic())
        found = self._detector.detect(images)
        self._times.append(time.monotonic())
        return found

    def timings(self, queue_ms: float, run_ms: float) -> dict[str, float]:
        """Milliseconds of waiting, of the model, and of the rest: reading and storing."""
        infer = (self._times[-1] - self._times[0]) * 1e3 if self._times else 0.0
        parts = {"queue": queue_ms, "infer": infer, "decode_and_store": run_ms - infer}
        return {name: round(value, 1) for name, value in parts.items()}


# --- the gallery


@router.get(
    "/gallery/images",
    summary="List images",
    response_model=ImagePage,
    response_model_exclude_unset=True,
    openapi_extra=route_scope("search"),
)
def list_images(query: Annotated[ListQuery, Query()], parts: PartsOf) -> Any:
    """In the order in which they came, or from the newest back."""
    most = parts.settings.page_max_items
    if query.limit > most:
        raise too_many("/query/limit", most)
    if len(query.camera_id) > parts.settings.filter_max_values:
        raise too_many("/query/camera_id", parts.settings.filter_max_values)
    meant = query.scene_filter()
    page = parts.gallery.scenes(
        meant, limit=query.limit, cursor=query.cursor, newest_first=query.order == "newest"
    )
    items = [ImageRecord(**image_record(scene)) for scene in page.scenes]
    counted = {"total": parts.gallery.count(meant)} if query.count else {}
    return ImagePage(items=items, next_cursor=page.next_cursor, **cast(Any, counted))


@router.post(
    "/gallery/images:delete",
    summary="Delete images by their ids",
    response_model=Deleted,
    openapi_extra=route_scope("ingest") | body(json_body("DeleteImages")),
)
async def delete_images(request: Request, parts: PartsOf) -> Any:
    """Ids that are not there are passed over."""
    wanted = await read_json(request, DeleteImages, deadline_s=parts.settings.ingest_deadline_s)

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
def get_image(image_id: str, response: Response, parts: PartsOf) -> Any:
    """With the people found in it. Its ETag goes into If-Match of a change."""
    scene = parts.gallery.get(image_id)
    response.headers["ETag"] = etag(scene)
    return ImageRecord(**image_record(scene))


@router.patch(
    "/gallery/images/{image_id}",
    summary="Change an image's metadata",
    response_model=ImageRecord,
    openapi_extra=route_scope("ingest")
    | body(json_body("MetadataPatch", "application/merge-patch+json"), json_body("MetadataPatch"))
    | {
        "parameters": [
            {"name": "If-Match", "in": "header", "schema": {"type": "string"}, "required": False}
        ]
    },
)
async def patch_image(image_id: str, request: Request, response: Response, parts: PartsOf) -> Any:
    """A merge patch: what is named changes, null removes. Filters see it at once."""
    changes = await read_json(request, MetadataPatch, deadline_s=parts.settings.ingest_deadline_s)
    if_match = request.headers.get("if-match")

    def patch() -> StoredScene:
        with parts.patching, parts.gallery.changing():
            stored = parts.gallery.get(image_id)
            if if_match is not None and not _matches(if_match, etag(stored)):
                raise RequestError("precondition_failed", "The image was changed meanwhile.")
            new = changes.changes(stored)
            kept = {name: getattr(stored, name) for name in ImageMetadata.model_fields}
            check_metadata_size(check(ImageMetadata, kept | new), parts.settings.metadata_max_bytes)
            return parts.gallery.patch(image_id, new)

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
    """Its record, its file and its detections; no search that starts later finds them."""
    parts.gallery.remove(image_id)


@router.get(
    "/gallery/images/{image_id}/content",
    summary="Get an image's picture",
    response_class=Response,
    responses={200: {"content": {"image/*": {"schema": FILE}}}},
    openapi_extra=route_scope("search"),
)
def get_content(
    image_id: str, request: Request, query: Annotated[ContentQuery, Query()], parts: PartsOf
) -> Response:
    """Upright, as JPEG, without EXIF or other metadata; or, for admins, the file as it came."""
    if query.original:
        check_scope(request, "admin")
        scene = parts.gallery.get(image_id)
        content = parts.gallery.content(image_id)
        parts.gallery.note("original_read", image_id)
        media = MEDIA_TYPES.get(scene.format, "application/octet-stream")
        return Response(content, media_type=media, headers=PICTURE_HEADERS)
    return _picture(parts, image_id, upright_jpeg)


@router.get(
    "/gallery/images/{image_id}/thumbnail",
    summary="Get a small picture of an image",
    response_class=Response,
    responses={200: {"content": {"image/jpeg": {"schema": FILE}}}},
    openapi_extra=route_scope("search"),
)
def get_thumbnail(
    image_id: str, query: Annotated[ThumbnailQuery, Query()], parts: PartsOf
) -> Response:
    """JPEG, as large as fits into a square of the size."""
    return _picture(parts, image_id, partial(thumbnail_jpeg, size=query.size))


@router.get(
    "/gallery/detections/{detection_id}",
    summary="Get a detection's record",
    response_model=DetectionRecord,
    openapi_extra=route_scope("search"),
)
def get_detection(detection_id: str, parts: PartsOf) -> Any:
    """Where it is, and how surely a person."""
    found = parts.gallery.detection(detection_id)
    return DetectionRecord(**dict(ImageDetection.of(found)), image_id=found.scene_id)


@router.get(
    "/gallery/detections/{detection_id}/crop",
    summary="Get the picture of a detection",
    response_class=Response,
    responses={200: {"content": {"image/jpeg": {"schema": FILE}}}},
    openapi_extra=route_scope("search"),
)
def get_crop(detection_id: str, parts: PartsOf) -> Response:
    """JPEG of what is in its box."""
    found: StoredDetection = parts.gallery.detection(detection_id)
    return _picture(parts, found.scene_id, partial(crop_jpeg, box=found.box))


@router.get(
    "/gallery/detections/{detection_id}/embedding",
    summary="Get a detection's embedding",
    response_model=Embedding,
    openapi_extra=route_scope("admin"),
)
def get_embedding(detection_id: str, parts: PartsOf) -> Any:
    """Unit length; comparable only with embeddings of the same model."""
    view = parts.gallery.view()
    embedding = parts.gallery.embedding(detection_id, view=view).tolist()
    parts.gallery.note("embedding_read", detection_id)
    return Embedding(detection_id=detection_id, embedding=embedding, **index_of(view))


@router.delete(
    "/gallery/detections/{detection_id}",
    summary="Delete a detection",
    status_code=204,
    openapi_extra=route_scope("ingest"),
)
def delete_detection(detection_id: str, parts: PartsOf) -> None:
    """One person of an image; the image stays."""
    parts.gallery.remove_detection(detection_id)


# --- without storing


@router.post(
    "/detect",
    summary="Find the people in a picture",
    response_model=DetectedPeople,
    openapi_extra=route_scope("search") | body(multipart_body(1)),
)
async def detect(request: Request, parts: PartsOf) -> Any:
    """Nothing is stored."""
    settings = parts.settings
    deadline_s = deadline_of(request, settings.search_deadline_s)
    async with read_form(request, document=None, max_files=1, deadline_s=deadline_s) as form:
        if not form.images:
            raise RequestError(
                "validation_failed", "/image: send one file: curl -F image=@picture.jpg"
            )
        file = form.images[0].file
        detector = TimedDetector(parts.detector)

        def work() -> tuple[int, int, Any]:
            image = read_image(file.read(), settings.image_limits)
            return image.width, image.height, detector.detect([image.pixels])[0]

        done = await while_connected(request, run_in_lane(parts, Lane.SEARCH, work, deadline_s))
    width, height, people = done.value
    timings = detector.timings(done.queue_ms, done.run_ms)
    timings["decode"] = timings.pop("decode_and_store")
    return DetectedPeople(
        width=width,
        height=height,
        detections=[
            Detection(box=Box.of(box), detection_score=round(score, 6))
            for box, score in zip(people.boxes.tolist(), people.scores.tolist(), strict=True)
        ],
        timings_ms=timings,
    )


@router.post(
    "/search",
    summary="Search for a person",
    response_model=SearchResponse,
    response_model_exclude_unset=True,
    openapi_extra=route_scope("search")
    | body(
        multipart_body(
            16, "request", reference("SearchRequest") | {"contentMediaType": "application/json"}
        ),
        json_body("SearchRequest"),
    ),
)
async def search(request: Request, parts: PartsOf) -> Any:
    """`curl -F image=@crop.jpg …/search` looks for the person of whom the picture is a crop. A
    JSON part `request` says more: boxes in the uploaded scenes, stored detections, filters."""
    settings = parts.settings
    deadline_s = deadline_of(request, settings.search_deadline_s)
    async with read_form_or_json(
        request,
        SearchRequest,
        max_files=settings.search_max_queries,
        deadline_s=deadline_s,
        expected="Send multipart/form-data with an image, or application/json.",
    ) as (wanted, files):
        return await _search(request, wanted or SearchRequest(), files, parts, deadline_s)


async def _search(
    request: Request,
    wanted: SearchRequest,
    files: Sequence[BinaryIO],
    parts: Parts,
    deadline_s: float,
) -> SearchResponse:
    _check_search(wanted, parts)
    timings: dict[str, float] = {}
    done = await while_connected(
        request,
        run_in_lane(
            parts,
            Lane.SEARCH,
            lambda: parts.search.describe(wanted, files, timings),
            deadline_s,
        ),
    )
    people = done.value
    as_of, started = now(), time.perf_counter()
    answer = await anyio.to_thread.run_sync(parts.search.rank, people, wanted)
    timings |= {"queue": done.queue_ms, "search": (time.perf_counter() - started) * 1e3}
    view = people[0].view
    matching = parts.detectors.of(view.generation.model).card.matching
    match_similarity = None if matching is None else matching.similarity
    hits = []
    for rank, found in enumerate(answer.hits, 1):
        optional: dict[str, Any] = {}
        if found.query is not None:
            optional["matched_query"] = found.query
        if "crop_url" in wanted.include:
            optional["crop_url"] = f"/gallery/detections/{found.hit.detection.id}/crop"
        if "explanation" in wanted.include:
            optional["explanation"] = Explanation(
                norm=round(found.hit.detection.score, 6), cosine=round(found.hit.similarity, 6)
            )
        hits.append(
            Hit.of(
                found.hit,
                rank=rank,
                fmr=found.fmr,
                match_similarity=match_similarity,
                **optional,
            )
        )
    return SearchResponse(
        search_id=new_id("srch_"),
        query=[
            UsedQuery(
                box=used_box(person),
                width=person.width,
                height=person.height,
                embedding_norm=None if person.score is None else round(person.score, 6),
                warnings=person.warnings,
            )
            for person in people
        ],
        hits=hits,
        rerank=Rerank(method="none") if wanted.rerank.method == "none" else wanted.rerank,
        index=SearchedIndex(
            **index_of(view),
            exact=parts.gallery.exact,
            as_of=as_of,
            match_similarity=match_similarity,
            calibration=answer.calibration,
        ),
        timings_ms={name: round(value, 1) for name, value in timings.items()},
    )


def _check_search(wanted: SearchRequest, parts: Parts) -> None:
    settings = parts.settings
    if wanted.limit > settings.search_max_hits:
        raise too_many("/limit", settings.search_max_hits)
    if len(wanted.queries) > settings.search_max_queries:
        raise too_many("/queries", settings.search_max_queries)
    for place, length in wanted.filter.lists().items():
        if length > settings.filter_max_values:
            raise too_many(f"/filter/{place}", settings.filter_max_values)


# --- shared


async def run_in_lane(
    parts: Parts, lane: Lane, work: Callable[[], T], deadline_s: float
) -> Done[T]:
    """Wait for work on the inference thread, and measure it."""
    done = await parts.worker.run(lane, work, deadline_s=deadline_s)
    parts.metrics.queue_seconds.labels(lane).observe(done.queue_ms / 1e3)
    parts.metrics.work_seconds.labels(lane).observe(done.run_ms / 1e3)
    return done


def request_id(request: Request) -> str:
    """The id that the edge gave, or took from X-Request-Id."""
    return cast(str, request.scope["state"]["request_id"])


def too_many(pointer: str, limit: int) -> RequestError:
    """A number or a list is larger than a setting allows."""
    message = f"at most {limit}"
    return RequestError(
        "validation_failed",
        f"{pointer}: {message}",
        limits={"max": limit},
        errors=[{"pointer": pointer, "code": "less_than_equal", "message": message}],
    )


def etag(scene: StoredScene) -> str:
    """Changes whenever the record does."""
    record = ImageRecord(**image_record(scene)).model_dump_json()
    return f'"{hashlib.sha256(record.encode()).hexdigest()[:32]}"'


def _matches(if_match: str, tag: str) -> bool:
    listed = {each.strip() for each in if_match.split(",")}
    return "*" in listed or tag in listed


def _picture(parts: Parts, scene_id: str, draw: Callable[..., bytes]) -> Response:
    content = parts.gallery.content(scene_id)
    with parts.decoding:
        image = read_image(content, parts.settings.image_limits)
        jpeg = draw(image.pixels)
    return Response(jpeg, media_type="image/jpeg", headers=PICTURE_HEADERS)
