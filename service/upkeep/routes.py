"""The routes about keeping a gallery: snapshots, erasures, the audit trail, the index."""

import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, BinaryIO

import anyio.to_thread
from fastapi import APIRouter, Depends, Query, Request, Response
from starlette.responses import JSONResponse, StreamingResponse

from indexer.cursor import read_cursor, write_cursor
from indexer.database.erasures import Erasure, hash_id
from indexer.errors import InvalidCursorError, StorageFullError, TooManyJobsError
from indexer.gallery.manifest import MANIFEST, Manifest
from indexer.gallery.snapshots import (
    find_snapshot,
    holding,
    list_snapshots,
    new_snapshot_id,
    remove_snapshot,
)
from indexer.search.query import QueryPerson
from service.generations.schemas import GenerationRecord
from service.http.auth import authorize, key_name, route_scope
from service.http.bodies import (
    deadline_of,
    read_form_or_json,
    refuse_unknown_parameters,
    while_connected,
)
from service.http.edge import logger
from service.http.errors import RequestError, too_many
from service.http.fields import index_of
from service.http.idempotency import KEY_PARAMETER, JsonAnswer, KeyedRequest, fingerprint_of
from service.http.openapi import FILE, body, json_body, multipart_body, reference
from service.jobs.accepting import accept
from service.jobs.schemas import AcceptedJob
from service.running.dependencies import PartsOf, run_in_lane
from service.running.parts import Parts
from service.running.previews import Preview
from service.running.worker import Lane
from service.search.queries import person_queries
from service.upkeep.erasing import select
from service.upkeep.schemas import (
    MAX_LISTED_MATCHES,
    REMAINS,
    AcceptedErasure,
    AcceptedSnapshot,
    AuditPage,
    AuditQuery,
    AuditRecord,
    ErasureMatch,
    ErasurePage,
    ErasurePreview,
    ErasureReceipt,
    ErasureRequest,
    ErasuresQuery,
    IndexRecord,
    SnapshotList,
    SnapshotRecord,
)

TAR = "application/x-tar"
BLOCK = 2**20

router = APIRouter(dependencies=[Depends(authorize), Depends(refuse_unknown_parameters)])


# --- snapshots


@router.post(
    "/snapshots",
    summary="Make a snapshot",
    status_code=202,
    response_model=AcceptedSnapshot,
    openapi_extra=route_scope("admin") | {"parameters": [KEY_PARAMETER]},
)
async def make_snapshot(request: Request, parts: PartsOf) -> Response:
    """A job copies the database as of one change, and links the originals of exactly the images
    in it; adding, deleting and searching go on. A snapshot is there whole or not at all."""

    async def accept_snapshot(keyed: KeyedRequest | None) -> JsonAnswer:
        parts.disk.check()
        id = new_snapshot_id()
        more = {"snapshot_id": id}
        return await accept(request, parts, keyed, "snapshot", more, more=more)

    return await parts.idempotency.answer_once(
        request, lambda: fingerprint_of(request, []), accept_snapshot
    )


@router.get(
    "/snapshots",
    summary="List snapshots",
    response_model=SnapshotList,
    openapi_extra=route_scope("admin"),
)
def get_snapshots(parts: PartsOf) -> SnapshotList:
    """Oldest first. To restore one, stop the service: `python -m indexer restore`."""
    found = list_snapshots(parts.gallery.snapshots.directory)
    return SnapshotList(items=[SnapshotRecord.of(one) for one in found])


@router.get(
    "/snapshots/{snapshot_id}/content",
    summary="Download a snapshot",
    response_class=StreamingResponse,
    responses={200: {"description": "A tar file", "content": {TAR: {"schema": FILE}}}},
    openapi_extra=route_scope("admin"),
)
def get_snapshot_content(snapshot_id: str, parts: PartsOf) -> Response:
    """A tar file of one directory, which `python -m indexer restore` takes once it is unpacked."""
    found = find_snapshot(parts.gallery.snapshots.directory, snapshot_id)
    if found.manifest is None:
        raise RequestError("not_found", "The snapshot's manifest cannot be read.")
    members = _members(found.path, found.manifest)
    length = 2 * tarfile.BLOCKSIZE + sum(len(head) + _padded(size) for _, head, size in members)
    parts.gallery.trail.note("snapshot_read", snapshot_id)
    headers = {
        "Content-Length": str(length),
        "Content-Disposition": f'attachment; filename="{snapshot_id}.tar"',
    }
    return StreamingResponse(_tar(members), media_type=TAR, headers=headers)


@router.delete(
    "/snapshots/{snapshot_id}",
    summary="Delete a snapshot",
    status_code=204,
    openapi_extra=route_scope("admin"),
)
def delete_snapshot(snapshot_id: str, parts: PartsOf) -> None:
    """The gallery itself is not touched."""
    find_snapshot(parts.gallery.snapshots.directory, snapshot_id)
    parts.gallery.trail.note("snapshot_deleted", snapshot_id)
    remove_snapshot(parts.gallery.snapshots.directory, snapshot_id)


# --- erasures


@router.post(
    "/erasures",
    summary="Erase a person's images, or show what would be erased",
    status_code=202,
    response_model=AcceptedErasure,
    responses={200: {"model": ErasurePreview, "description": "With mode preview"}},
    openapi_extra=route_scope("admin")
    | body(
        multipart_body(
            1, "request", reference("ErasureRequest") | {"contentMediaType": "application/json"}
        ),
        json_body("ErasureRequest"),
    ),
)
async def erase(request: Request, parts: PartsOf) -> Response:
    """First `"mode": "preview"` with what is meant, which erases nothing and answers what would go,
    and a token; then `"mode": "execute"` with that token. The token is for exactly what was shown:
    if anything came to it or went from it, nothing is erased, and a new preview is needed.

    Whole images are erased unless `"erase": "detections"` is said: then the pictures stay, and
    still show the person. Rows, embeddings, originals and copies of them are gone from the data
    directory once the receipt says completed. Snapshots are left as they are; the receipt lists
    those that hold some of it."""
    deadline_s = deadline_of(request, parts.settings.search_deadline_s)
    expected = "Send application/json, or multipart/form-data with an image."
    async with read_form_or_json(
        request, ErasureRequest, max_files=1, deadline_s=deadline_s, expected=expected
    ) as (wanted, files):
        if wanted is None:
            raise RequestError("validation_failed", "/request: say what is meant, as JSON.")
        return await _erase(request, parts, wanted, files, deadline_s)


@router.get(
    "/erasures",
    summary="List erasures",
    response_model=ErasurePage,
    response_model_exclude_unset=True,
    openapi_extra=route_scope("admin"),
)
def list_erasures(query: Annotated[ErasuresQuery, Query()], parts: PartsOf) -> ErasurePage:
    """Receipts, newest first, without the snapshots that hold some of it."""
    _check_page(query.limit, parts)
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
    """Counts, time, who asked, and SHA-256 of the ids; and which snapshots hold some of it now."""
    erasure = parts.gallery.erasures.get(erasure_id)
    return ErasureReceipt.of(
        erasure, holding(parts.gallery.snapshots.directory, set(erasure.ids_sha256))
    )


# --- the audit trail


@router.get(
    "/audit",
    summary="List who did what",
    response_model=AuditPage,
    openapi_extra=route_scope("admin"),
)
def get_audit(query: Annotated[AuditQuery, Query()], parts: PartsOf) -> AuditPage:
    """Newest first: every change, and what admins did and read. An entry was written in the same
    transaction as its change; it holds ids, names of fields and counts, never what they held."""
    _check_page(query.limit, parts)
    entries = parts.gallery.trail.entries(
        limit=query.limit + 1,
        before=None if query.cursor is None else _read_number(query.cursor),
        action=query.action,
        subject=query.subject,
    )
    page = entries[: query.limit]
    more = len(entries) > query.limit
    return AuditPage(
        items=[AuditRecord.of(entry) for entry in page],
        next_cursor=write_cursor(f"aud_{page[-1].number:026}") if more else None,
    )


# --- the index


@router.get(
    "/index",
    summary="How is the index?",
    response_model=IndexRecord,
    openapi_extra=route_scope("search"),
)
def get_index(parts: PartsOf) -> IndexRecord:
    """How much it holds, and how much of it and of the database is unused."""
    state, stats = parts.gallery.upkeep.index_state(), parts.gallery.stats()
    return IndexRecord(
        **index_of(parts.gallery.view()),
        engine=stats.engine,
        rows=state.rows,
        gone=state.gone,
        bytes=state.index_bytes,
        database_bytes=state.database_bytes,
        database_free_bytes=state.database_free_bytes,
        last_change=stats.last_change,
        index_change=stats.index_change,
        compacted_at=state.compacted_at,
        generations=[GenerationRecord.of(one) for one in parts.gallery.generations.all()],
    )


@router.post(
    "/index/compact",
    summary="Compact the index and the database",
    status_code=202,
    response_model=AcceptedJob,
    openapi_extra=route_scope("admin") | {"parameters": [KEY_PARAMETER]},
)
async def compact_index(request: Request, parts: PartsOf) -> Response:
    """A job fills the index anew beside the one in use, without the places of what is gone, and
    writes the database anew where that makes it smaller. It also happens by itself, once more
    than 1000 and a fifth of the places are gone. Searches go on; nothing is found differently."""

    async def accept_compaction(keyed: KeyedRequest | None) -> JsonAnswer:
        return await accept(request, parts, keyed, "compact", {})

    return await parts.idempotency.answer_once(
        request, lambda: fingerprint_of(request, []), accept_compaction
    )


# --- shared


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
            _execute, parts, str(wanted.token), key_name(request)
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


def _check_page(limit: int, parts: Parts) -> None:
    if limit > parts.settings.page_max_items:
        raise too_many("/query/limit", parts.settings.page_max_items)


def _read_number(cursor: str) -> int:
    digits = read_cursor(cursor, "aud_").removeprefix("aud_")
    if not digits.isdigit() or int(digits) >= 2**63:
        raise InvalidCursorError("the cursor is not one that this list gave")
    return int(digits)


def _members(snapshot: Path, manifest: Manifest) -> list[tuple[Path, bytes, int]]:
    """Each file of a snapshot, its head in a tar file, and its size in bytes."""
    manifest_bytes = (snapshot / MANIFEST).stat().st_size
    sizes = {MANIFEST: manifest_bytes} | {name: size for name, (size, _) in manifest.files.items()}
    members = []
    for name, size in sizes.items():
        head = tarfile.TarInfo(f"{snapshot.name}/{name}")
        head.size, head.mode, head.mtime = size, 0o600, manifest.created_at // 1_000_000
        members.append((snapshot / name, head.tobuf(tarfile.GNU_FORMAT), size))
    return members


def _tar(members: list[tuple[Path, bytes, int]]) -> Iterator[bytes]:
    for path, head, size in members:
        yield head
        left = size
        with path.open("rb") as file:
            while left:
                block = file.read(min(left, BLOCK))
                if not block:
                    raise OSError(f"{path} is shorter than its manifest says")
                left -= len(block)
                yield block
        yield bytes(_padded(size) - size)
    yield bytes(2 * tarfile.BLOCKSIZE)


def _padded(size: int) -> int:
    return -(-size // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE
