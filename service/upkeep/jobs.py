"""The long work of keeping a gallery, as jobs: snapshots, erasures, compaction."""

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from indexer.errors import SnapshotNotFoundError
from indexer.gallery.snapshots import Manifest, find_snapshot

if TYPE_CHECKING:
    from service.running.jobs import JobContext

TELL_S = 0.5  # between two notes about progress, each of which is written to disk


def make_snapshot(context: "JobContext") -> dict[str, Any]:
    """Arguments: snapshot_id, the name that it gets; it is not made twice."""
    gallery, id = context.parts.gallery, context.arguments["snapshot_id"]
    try:
        manifest = find_snapshot(gallery.snapshots, id).manifest
    except SnapshotNotFoundError:
        manifest = gallery.snapshot(id=id, on_progress=_now_and_then(context.progress))
    return {"snapshot_id": id} | ({} if manifest is None else _counts(manifest))


def finish_erasure(context: "JobContext") -> dict[str, Any]:
    """Arguments: erasure_id, of an erasure that was accepted. To cancel the job stops nothing."""
    from service.running.jobs import JobStoppedError

    def tell(done: int, total: int) -> None:
        try:
            context.progress(done, total)
        except JobStoppedError as stopped:
            if not stopped.cancelled:
                raise

    id = context.arguments["erasure_id"]
    erasure = context.parts.gallery.finish_erasure(id, on_progress=_now_and_then(tell))
    return {"erasure_id": id, "images": erasure.images, "detections": erasure.detections}


def compact(context: "JobContext") -> dict[str, Any]:
    """No arguments."""
    freed = context.parts.gallery.compact()
    return {
        "gone": freed.gone,
        "index_bytes": freed.index_bytes,
        "database_bytes": freed.database_bytes,
    }


def _counts(manifest: Manifest) -> dict[str, Any]:
    return {
        "images": manifest.scenes,
        "detections": manifest.detections,
        "bytes": manifest.nbytes,
        "damaged": list(manifest.damaged),
    }


def _now_and_then(tell: Callable[[int, int], None]) -> Callable[[int, int], None]:
    """The same, but at most once in TELL_S seconds, and for the last."""
    told_at = 0.0

    def sometimes(done: int, total: int) -> None:
        nonlocal told_at
        if done == total or time.monotonic() >= told_at + TELL_S:
            tell(done, total)
            told_at = time.monotonic()

    return sometimes
