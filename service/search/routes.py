"""The routes that look at a picture without storing it: detect and search."""

import time
from collections.abc import Sequence
from typing import Any, BinaryIO

import anyio.to_thread
from fastapi import APIRouter, Depends, Request

from indexer.errors import NotCalibratedError, OppositeQueriesError
from indexer.ids import new_id
from indexer.search.query import PersonSearch, QueryPerson, Ranking
from indexer.times import now
from models.image import read_image
from service.http.auth import authorize, route_scope
from service.http.bodies import (
    deadline_of,
    read_form,
    read_form_or_json,
    refuse_unknown_parameters,
    while_connected,
)
from service.http.errors import RequestError, invalid_at, too_many
from service.http.fields import Box, index_of
from service.http.openapi import body, json_body, multipart_body, reference
from service.images.schemas import Detection
from service.running.dependencies import PartsOf, run_in_lane
from service.running.detectors import TimedDetector
from service.running.parts import Parts
from service.running.worker import Lane
from service.search.queries import check_have_scenes, person_queries
from service.search.schemas import (
    DetectedPeople,
    Explanation,
    Hit,
    Rerank,
    SearchedIndex,
    SearchRequest,
    SearchResponse,
    UsedQuery,
)

EXAMPLE = {
    "queries": [{"detection_id": "det_01JD5T6Q0Z8W3V7X9Y2K4M6N8P"}],
    "limit": 10,
    "filter": {"camera_id": {"in": ["gate"]}},
}

router = APIRouter(dependencies=[Depends(authorize), Depends(refuse_unknown_parameters)])


@router.post(
    "/detect",
    summary="Find the people in a picture",
    response_model=DetectedPeople,
    openapi_extra=route_scope("search") | body(multipart_body(1)),
)
async def detect(request: Request, parts: PartsOf) -> DetectedPeople:
    """Nothing is stored."""
    settings = parts.settings
    deadline_s = deadline_of(request, settings.search_deadline_s)
    async with read_form(request, document=None, max_files=1, deadline_s=deadline_s) as form:
        if not form.images:
            raise RequestError(
                "validation_failed", "/image: send one file: curl -F image=@picture.jpg"
            )
        file = form.images[0].file
        deadline_s = deadline_of(request, settings.search_deadline_s)
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
    openapi_extra=route_scope("search") | body(json_body("SearchRequest", example=EXAMPLE)),
)
async def search(request: Request, parts: PartsOf) -> SearchResponse:
    """Looks for a person in a stored image, or in pictures sent as base64. It also accepts the
    forms of /search/image: `curl -F image=@crop.jpg …/search`.
    """
    return await _answer(request, parts)


@router.post(
    "/search/image",
    summary="Search for a person in a picture",
    response_model=SearchResponse,
    response_model_exclude_unset=True,
    openapi_extra=route_scope("search")
    | body(
        multipart_body(
            16, "request", reference("SearchRequest") | {"contentMediaType": "application/json"}
        )
    ),
)
async def search_image(request: Request, parts: PartsOf) -> SearchResponse:
    """`curl -F image=@crop.jpg …/search/image` looks for the person in the crop. A JSON part
    `request` can set boxes in the uploaded scenes, stored detections to look for, and filters.
    """
    return await _answer(request, parts)


async def _answer(request: Request, parts: Parts) -> SearchResponse:
    settings = parts.settings
    deadline_s = deadline_of(request, settings.search_deadline_s)
    async with read_form_or_json(
        request,
        SearchRequest,
        max_files=settings.search_max_queries,
        deadline_s=deadline_s,
        expected="Send multipart/form-data with an image, or application/json.",
        picture_max_bytes=settings.image_max_bytes,
    ) as (wanted, files):
        left_s = deadline_of(request, settings.search_deadline_s)
        return await _search(request, wanted or SearchRequest(), files, parts, left_s)


async def _search(
    request: Request,
    wanted: SearchRequest,
    files: Sequence[BinaryIO],
    parts: Parts,
    deadline_s: float,
) -> SearchResponse:
    _check_search(wanted, parts)
    queries = person_queries(wanted.queries, files)
    with_company = wanted.rerank.method == "cbgm"
    if with_company:
        check_have_scenes(queries)
    timings: dict[str, float] = {}

    def describe() -> list[QueryPerson]:
        return parts.search.describe(queries, with_company=with_company, timings=timings)

    done = await while_connected(request, run_in_lane(parts, Lane.SEARCH, describe, deadline_s))
    people = done.value
    as_of, started = now(), time.perf_counter()
    answer = await anyio.to_thread.run_sync(_rank, parts.search, people, wanted)
    timings |= {"queue": done.queue_ms, "search": (time.perf_counter() - started) * 1e3}
    view = people[0].view
    matching = parts.detectors.of(view.generation.model).card.matching
    match_similarity = None if matching is None else matching.similarity
    root_path = request.scope.get("root_path", "")
    hits = []
    for rank, found in enumerate(answer.hits, 1):
        optional: dict[str, Any] = {}
        if found.query is not None:
            optional["matched_query"] = found.query
        if "crop_url" in wanted.include:
            crop = f"/gallery/detections/{found.hit.detection.id}/crop"
            optional["crop_url"] = root_path + crop
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
                box=None if person.box is None else Box.of(person.box),
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


def _rank(search: PersonSearch, people: list[QueryPerson], wanted: SearchRequest) -> Ranking:
    try:
        return search.rank(
            people,
            limit=wanted.limit,
            fusion=wanted.fusion,
            filter=wanted.filter.scene_filter(),
            min_score=wanted.min_score,
            max_fmr=wanted.max_fmr,
            min_detection_score=wanted.min_detection_score,
            group_by=wanted.group_by,
            rerank=wanted.rerank.method,
            top_n=wanted.rerank.top_n,
            leave_own_scenes_out=wanted.exclude_query_image,
        )
    except OppositeQueriesError as error:
        raise invalid_at("/queries", "opposite", str(error)) from None
    except NotCalibratedError as error:
        raise RequestError(error.code, f"/max_fmr: {error}.") from None


def _check_search(wanted: SearchRequest, parts: Parts) -> None:
    settings = parts.settings
    if wanted.limit > settings.search_max_hits:
        raise too_many("/limit", settings.search_max_hits)
    if len(wanted.queries) > settings.search_max_queries:
        raise too_many("/queries", settings.search_max_queries)
    for place, length in wanted.filter.lists().items():
        if length > settings.filter_max_values:
            raise too_many(f"/filter/{place}", settings.filter_max_values)
