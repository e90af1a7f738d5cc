"""The routes about snapshots."""

import tarfile
from collections.abc import Iterator
from pathlib import Path

from fastapi import APIRouter, Depends, Request, Response
from starlette.responses import StreamingResponse

from indexer.gallery.manifest import MANIFEST, Manifest
from indexer.gallery.snapshots import (
    find_snapshot,
    list_snapshots,
    new_snapshot_id,
    remove_snapshot,
)
from service.http.auth import authorize, route_scope
from service.http.bodies import refuse_unknown_parameters
from service.http.errors import RequestError
from service.http.idempotency import KEY_PARAMETER, JsonAnswer, KeyedRequest, fingerprint_of
from service.http.openapi import FILE
from service.jobs.accepting import accept
from service.running.dependencies import PartsOf
from service.upkeep.schemas import AcceptedSnapshot, SnapshotList, SnapshotRecord

TAR = "application/x-tar"
BLOCK = 2**20

router = APIRouter(dependencies=[Depends(authorize), Depends(refuse_unknown_parameters)])


@router.post(
    "/snapshots",
    summary="Make a snapshot",
    status_code=202,
    response_model=AcceptedSnapshot,
    openapi_extra=route_scope("admin") | {"parameters": [KEY_PARAMETER]},
)
async def make_snapshot(request: Request, parts: PartsOf) -> Response:
    """A job copies the database as it is at one moment, and links the original files of its images.
    Adding, deleting and searching go on meanwhile. A snapshot is either complete or not there.
    """

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
    """Oldest first. To restore one, stop the service and run `python -m indexer restore`."""
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
    """A tar file with one directory. Unpack it, then restore it with `python -m indexer
    restore`.
    """
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
    """The gallery itself stays as it is."""
    find_snapshot(parts.gallery.snapshots.directory, snapshot_id)
    parts.gallery.trail.note("snapshot_deleted", snapshot_id)
    remove_snapshot(parts.gallery.snapshots.directory, snapshot_id)


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
