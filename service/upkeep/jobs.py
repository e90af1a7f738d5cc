"""The long work of upkeep, as jobs: snapshots, erasures, compaction."""

import time
from collections.abc import Callable
from typing import Any

from indexer.errors import SnapshotNotFoundError
from indexer.gallery.gallery import Gallery
from indexer.gallery.manifest import Manifest
from indexer.gallery.snapshots import find_snapshot
from service.running.jobs import JobContext, JobStoppedError

TELL_S = 0.5  # between two notes about progress, each of which is written to disk


def make_snapshot(gallery: Gallery, context: JobContext) -> dict[str, Any]:
    """Make a snapshot, unless it is there already. Arguments: snapshot_id, its name."""
    id = context.arguments["snapshot_id"]
    try:
        manifest = find_snapshot(gallery.snapshots.directory, id).manifest
    except SnapshotNotFoundError:
        manifest = gallery.snapshots.make(id=id, on_progress=_now_and_then(context.progress))
    return {"snapshot_id": id} | ({} if manifest is None else _counts(manifest))


def finish_erasure(gallery: Gallery, context: JobContext) -> dict[str, Any]:
    """Finish an accepted erasure; cancelling the job does not stop it. Arguments: erasure_id."""

    def tell(done: int, total: int) -> None:
        try:
            context.progress(done, total)
        except JobStoppedError as stopped:
            if not stopped.cancelled:
                raise

    id = context.arguments["erasure_id"]
    erasure = gallery.erasures.finish(id, on_progress=_now_and_then(tell))
    return {"erasure_id": id, "images": erasure.images, "detections": erasure.detections}


def compact(gallery: Gallery, context: JobContext) -> dict[str, Any]:
    """Compact the gallery. No arguments."""
    freed = gallery.upkeep.compact()
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
    """Call `tell` at most once in TELL_S seconds, and for the last step."""
    told_at = 0.0

    def sometimes(done: int, total: int) -> None:
        nonlocal told_at
        if done == total or time.monotonic() >= told_at + TELL_S:
            tell(done, total)
            told_at = time.monotonic()

    return sometimes
