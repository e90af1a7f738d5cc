"""An erasure is carried out: rows, index, originals, and every other place with the bytes.

What is to go is written down first (indexer/database/erasures.py); each step here can
be done again.
"""

from collections.abc import Callable, Collection

import numpy as np
from numpy.typing import NDArray

from indexer.database import erasures
from indexer.database.audit import acting_as
from indexer.database.erasures import Erasure, Pending
from indexer.errors import ErasureChangedError
from indexer.gallery.snapshots import ORIGINALS
from indexer.gallery.writer import Changes

ERASED_AT_ONCE = 100  # scenes or detections in one transaction of an erasure


def begin(
    changes: Changes,
    scene_ids: Collection[str],
    detection_ids: Collection[str],
    agreed: Callable[[], bool],
) -> Erasure:
    """Write down what is to go: Gallery.erase."""
    if bool(scene_ids) == bool(detection_ids):
        raise ValueError("expected scenes, or detections")

    def accept() -> Erasure:
        with changes.store.write() as change:
            return erasures.accept(
                change.connection, scene_ids=scene_ids, detection_ids=detection_ids
            )

    with changes.changing():
        if not agreed():
            raise ErasureChangedError("what would be erased is not what the preview showed")
        erasure = changes.deleting(accept)
    changes.on_step("accepted")
    return erasure


def finish(changes: Changes, id: str, on_progress: Callable[[int, int], None]) -> None:
    """Do what an erasure says, or what is left of it: Gallery.finish_erasure."""
    store = changes.store
    with store.read() as snapshot:
        erasure = erasures.get(snapshot.connection, id)
        pending = erasures.pending(snapshot.connection, id)
    if pending is None:
        return
    ids = [*pending.scenes, *pending.detections]
    with acting_as(erasure.by):
        for start in range(0, len(ids), ERASED_AT_ONCE):
            with changes.changing():
                _erase_some(changes, id, ids[start : start + ERASED_AT_ONCE])
            on_progress(start, len(ids))
        with changes.changing():
            _forget(changes, pending)
            changes.on_step("compacted")
            with store.write() as change:
                if erasures.pending(change.connection, id) is not None:
                    erasures.complete(change.connection, id)
            store.empty_log()
    changes.refill()
    changes.on_step("completed")
    on_progress(len(ids), len(ids))


def _erase_some(changes: Changes, erasure: str, ids: Collection[str]) -> None:
    """Remove scenes or detections with one transaction; what is gone is passed over."""
    rows: list[NDArray[np.int64]] = []
    contents: list[str] = []

    def delete() -> int:
        rows.clear()
        contents.clear()
        with changes.store.write() as change:
            for id in ids:
                if id.startswith("img_"):
                    removed = change.remove(id, erasure=erasure)
                    if removed is not None:
                        contents.append(removed[0])
                        rows.append(removed[1])
                else:
                    of_detection = change.remove_detection(id, erasure=erasure)
                    if of_detection is not None:
                        rows.append(of_detection)
            changes.on_step("erasing")
            return change.last_change()

    number = changes.deleting(delete)
    changes.on_step("erasure committed")
    changes.unindex(np.concatenate([*rows, np.zeros(0, np.int64)]), number)
    changes.on_step("erasure unindexed")
    for sha256 in contents:
        changes.erase_original(sha256)
    changes.on_step("originals erased")


def _forget(changes: Changes, pending: Pending) -> None:
    """After the rows are deleted: every other place where an erasure's bytes may be."""
    with changes.store.read() as snapshot:
        stored = snapshot.contents()
    left = [one for one in pending.contents if one[0] not in stored]  # not added since
    for sha256, _ in left:
        changes.erase_original(sha256)
    erasures.remove_copies(changes.directory, left, but=changes.directory / ORIGINALS)
    with changes.store.write() as change:
        erasures.remove_mentions(change.connection, pending)
    changes.reserve.give_up()
    changes.store.vacuum()
