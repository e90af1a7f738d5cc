"""The routes about erasures: a preview, agreeing to it, receipts."""

from typing import Annotated, BinaryIO

import anyio.to_thread
from fastapi import APIRouter, Depends, Query, Request, Response
from starlette.responses import JSONResponse

from indexer.cursor import read_cursor, write_cursor
from indexer.errors import StorageFullError, TooManyJobsError
from indexer.gallery.snapshots import holding
from indexer.rows.erasures import Erasure, hash_id
from indexer.search.query import QueryPerson
from service.http.auth import authorize, key_owner, route_scope
from service.http.bodies import (
    deadline_of,
    read_form_or_json,
    refuse_unknown_parameters,
    while_connected,
)
from service.http.edge import logger
from service.http.errors import RequestError
from service.http.openapi import body, json_body, multipart_body, reference
from service.running.dependencies import PartsOf, check_limit, run_in_lane
from service.running.parts import Parts
from service.running.previews import Preview
from service.running.worker import Lane
from service.search.queries import person_queries
from service.upkeep.erasing import select
from service.upkeep.schemas import (
    MAX_LISTED_MATCHES,
    REMAINS,
    AcceptedErasure,
    ErasureMatch,
    ErasurePage,
    ErasurePreview,
    ErasureReceipt,
    ErasureRequest,
    ErasuresQuery,
)

EXAMPLE = {"mode": "preview", "label": "person-17"}

router = APIRouter(dependencies=[Depends(authorize), Depends(refuse_unknown_parameters)])


@router.post(
    "/erasures",
    summary="Erase a person's images, or show what would be erased",
    status_code=202,
    response_model=AcceptedErasure,
    responses={200: {"model": ErasurePreview, "description": "With mode preview"}},
    openapi_extra=route_scope("admin") | body(json_body("ErasureRequest", example=EXAMPLE)),
)
async def erase(request: Request, parts: PartsOf) -> Response:
    """First send `"mode": "preview"` and say what to erase. Nothing is erased yet: the answer shows
    what would be, with a token. Then send `"mode": "execute"` with that token. It erases exactly
    what was shown: if that has changed meanwhile, nothing is erased, and you need a new preview.

    Whole images are erased, unless you send `"erase": "detections"`: then the pictures stay, and
    still show the person. Once the receipt says completed, rows, embeddings, originals and copies
    of them are gone from the data directory. Snapshots stay as they are; the receipt lists those
    that still hold some of it. The forms of /erasures/image are accepted, too.
    """
    return await _answer(request, parts)


@router.post(
    "/erasures/image",
    summary="Show what would be erased of the person in a picture",
    status_code=202,
    response_model=AcceptedErasure,
    responses={200: {"model": ErasurePreview, "description": "With mode preview"}},
    openapi_extra=route_scope("admin")
    | body(
        multipart_body(
            1, "request", reference("ErasureRequest") | {"contentMediaType": "application/json"}
        )
    ),
)
async def erase_by_image(request: Request, parts: PartsOf) -> Response:
    """Like /erasures, for the person in the uploaded picture that `query` in the JSON part
    `request` names.
    """
    return await _answer(request, parts)


async def _answer(request: Request, parts: Parts) -> Response:
    deadline_s = deadline_of(request, parts.settings.search_deadline_s)
    expected = "Send application/json, or multipart/form-data with an image."
    async with read_form_or_json(
        request,
        ErasureRequest,
        max_files=1,
        deadline_s=deadline_s,
        expected=expected,
        picture_max_bytes=parts.settings.image_max_bytes,
    ) as (wanted, files):
        if wanted is None:
            raise RequestError("validation_failed", "/request: say what is meant, as JSON.")
        deadline_s = deadline_of(request, parts.settings.search_deadline_s)
        return await _erase(request, parts, wanted, files, deadline_s)


@router.get(
    "/erasures",
    summary="List erasures",
    response_model=ErasurePage,
    response_model_exclude_unset=True,
    openapi_extra=route_scope("admin"),
)
def list_erasures(query: Annotated[ErasuresQuery, Query()], parts: PartsOf) -> ErasurePage:
    """Receipts, newest first, without their lists of snapshots."""
    check_limit(query.limit, parts)
    before = None if query.cursor is None else read_cursor(query.cursor, "era_")
    found = parts.gallery.erasures.page(limit=query.limit + 1, before=before)
    page = found[: query.limit]
    return ErasurePage(
        items=[ErasureReceipt.of(one) for one in page],
        next_cursor=write_cursor(page[-1].id) if len(found) > query.limit else None,
    )


@router.get(
    "/erasures/{erasure_id}",
    summary="Get the receipt of an erasure",
    response_model=ErasureReceipt,
    openapi_extra=route_scope("admin"),
)
def get_erasure(erasure_id: str, parts: PartsOf) -> ErasureReceipt:
    """Counts, times, who asked, the SHA-256 of each erased id, and which snapshots still hold some
    of it.
    """
    erasure = parts.gallery.erasures.get(erasure_id)
    return ErasureReceipt.of(
        erasure, holding(parts.gallery.snapshots.directory, set(erasure.ids_sha256))
    )


async def _erase(
    request: Request,
    parts: Parts,
    wanted: ErasureRequest,
    files: list[BinaryIO],
    deadline_s: float,
) -> Response:
    if files and wanted.query is None:
        raise RequestError("validation_failed", "/query: an image was sent, but no query names it.")
    if wanted.mode == "execute":
        accepted = await anyio.to_thread.run_sync(
            _execute, parts, str(wanted.token), key_owner(request)
        )
        location = {"Location": f"/erasures/{accepted.erasure_id}"}
        return JSONResponse(accepted.model_dump(mode="json"), 202, location)
    person = None
    if wanted.query is not None:
        queries = person_queries([wanted.query], files)
        done = await while_connected(
            request,
            run_in_lane(parts, Lane.SEARCH, lambda: parts.search.describe(queries)[0], deadline_s),
        )
        person = done.value
    shown = await anyio.to_thread.run_sync(_preview, parts, wanted, person)
    return JSONResponse(shown.model_dump(mode="json"))


def _preview(parts: Parts, wanted: ErasureRequest, person: QueryPerson | None) -> ErasurePreview:
    view = parts.gallery.view() if person is None else person.view
    meant = wanted.meant(None if person is None else person.embedding)
    selected = select(parts.gallery, meant, view)

    def holds() -> bool:
        now = parts.gallery.view()
        same_model = now.generation.id == view.generation.id
        return (person is None or same_model) and (
            select(parts.gallery, meant, now).ids == selected.ids
        )

    token, expires_at = None, None
    if selected.ids:
        token, expires_at = parts.previews.hold(Preview(wanted.erase, selected.ids, holds))
    hashes = {hash_id(id) for id in selected.all_ids}
    return ErasurePreview(
        token=token,
        expires_at=expires_at,
        erase=wanted.erase,
        images=len(selected.scenes) if selected.whole else 0,
        detections=len(selected.detections),
        matches=[
            ErasureMatch.of(scene, selected) for scene in selected.in_order[:MAX_LISTED_MATCHES]
        ],
        remains=None if selected.whole else REMAINS,
        snapshots=holding(parts.gallery.snapshots.directory, hashes),
    )


def _execute(parts: Parts, token: str, key: str | None) -> AcceptedErasure:
    preview = parts.previews.take(token)
    ids = sorted(preview.ids)
    meant = {"scene_ids": ids} if preview.what == "images" else {"detection_ids": ids}
    erasure: Erasure = parts.gallery.erasures.begin(**meant, agreed=preview.holds)
    job_id: str | None = None
    try:
        job_id = parts.jobs.submit("erase", {"erasure_id": erasure.id}, key=key).id
    except (TooManyJobsError, StorageFullError) as error:
        logger.warning("the erasure %s goes on without a job: %s", erasure.id, error)
    return AcceptedErasure(erasure_id=erasure.id, job_id=job_id)
