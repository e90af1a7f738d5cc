"""Scenes and detections come, change and go.

What survives a crash. Adding a scene goes in steps, and the process may die between any two:

    1  written     the original, as a file in originals, under a passing name
    2  synced      that file is on disk
    3  renamed     … under its SHA-256
    4  placed      that directory is on disk
    5  inserted    scene, tags, detections, embeddings, a change number and the answer to a request
                   with a key, in one open transaction
    6  committed   … on disk: from here on the scene is stored
    7  indexed     its people are in the index in memory; add returns

A death before 6 leaves at most a file that no row names, which the next open deletes. Removing a
scene:

    1  deleted     in one open transaction, with a change number
    2  committed   from here on the scene is gone
    3  unindexed   no search that starts now finds it; after the next open neither
    4  erased      its original is deleted; if this is not reached, the next open does it

On a full disk adding fails and removing goes on, in a reserve that the gallery keeps for that.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import datetime

import numpy as np
from numpy.typing import NDArray

from indexer.database import generations
from indexer.database.audit import acting_as
from indexer.database.replies import Reply, keep_reply
from indexer.database.retention import expired, is_expired
from indexer.errors import (
    DatabaseUnavailableError,
    GalleryError,
    GalleryMismatchError,
    GenerationNotFoundError,
    GenerationSwappedError,
    LabelNotFoundError,
)
from indexer.gallery.reading import no_detection, no_scene, read_detection, read_scene
from indexer.gallery.writer import Changes
from indexer.records import AddResult, Generation, NewScene, StoredDetection, StoredScene
from models.detections import Detections

EXPIRED_AT_ONCE = 500


def add(
    changes: Changes,
    scene: NewScene,
    detections: Detections,
    *,
    seen_by: Generation | None,
    further: Mapping[str, Detections],
    reply: Callable[[StoredScene], Reply] | None,
) -> AddResult:
    """Store a scene and its people: Gallery.add.

    Args:
        seen_by: whose model made the detections; None is who answers.
    """
    store, originals = changes.store, changes.originals
    placed = store.shared and _find(changes, scene.sha256) is None
    if placed:  # it takes long, and others wait for who changes
        originals.put(scene.sha256, scene.content, changes.on_step)
    with changes.changing(), _unless_stored(changes, scene.sha256, placed=placed):
        seen_by = seen_by or changes.answering.generation
        people = _by_number(changes, {seen_by.id: detections, **further})
        stored = _find(changes, scene.sha256)
        if stored is not None:
            return AddResult(stored, created=False)
        changes.reserve.fill()
        with _unless_stored(changes, scene.sha256, placed=True):
            if not (placed and originals.has(scene.sha256)):
                originals.put(scene.sha256, scene.content, changes.on_step)
            changes.on_step("placed")
            with store.write() as change:
                id, _, added = change.add(scene, people)
                number = change.last_change()
                if reply is not None:
                    stored = change.scene(id=id)
                    assert stored is not None
                    keep_reply(change.connection, reply(stored))
                changes.on_step("inserted")
            changes.on_step("committed")
        answering = changes.answering
        people_added = added[answering.generation.number]
        answering.follow(number, lambda: answering.live.add(people_added, number))
        changes.on_step("indexed")
        return AddResult(read_scene(store, id), created=True)


def patch(changes: Changes, scene_id: str, values: Mapping[str, object]) -> StoredScene:
    """Replace what is said of a scene: Gallery.patch."""
    with changes.changing():
        with changes.writing() as change:
            if not change.patch(scene_id, values):
                raise no_scene(scene_id)
        return read_scene(changes.store, scene_id)


def remove(changes: Changes, scene_id: str) -> None:
    """Remove a scene: its row, its people and its original.

    Raises:
        SceneNotFoundError: when there is none.
    """

    def delete() -> tuple[str, NDArray[np.int64], int]:
        with changes.store.write() as change:
            removed = change.remove(scene_id)
            if removed is None:
                raise no_scene(scene_id)
            changes.on_step("deleted")
            return *removed, change.last_change()

    with changes.changing():
        sha256, rows, number = changes.deleting(delete)
        changes.on_step("committed")
        changes.unindex(rows, number)
        changes.on_step("unindexed")
        changes.erase_original(sha256)
        changes.on_step("erased")
        changes.refill()


def expire(
    changes: Changes, days: Mapping[str, int], at: datetime, stop: Callable[[], bool]
) -> int:
    """Remove the scenes that are older than their camera allows: Gallery.expire."""
    removed = 0
    with acting_as("(retention)"):
        while True:
            with changes.store.read() as snapshot:
                found = expired(snapshot.connection, days, at, EXPIRED_AT_ONCE)
            for id in found:
                if stop():
                    return removed
                with changes.changing():
                    # Its camera or time may have been changed meanwhile.
                    with changes.store.read() as snapshot:
                        still = is_expired(snapshot.connection, days, at, id)
                    if still:
                        remove(changes, id)
                        removed += 1
            if len(found) < EXPIRED_AT_ONCE:
                return removed


def remove_detection(changes: Changes, detection_id: str) -> None:
    """Remove one person from a scene: Gallery.remove_detection."""

    def delete() -> tuple[NDArray[np.int64], int]:
        with changes.store.write() as change:
            rows = change.remove_detection(detection_id)
            if rows is None:
                raise no_detection(detection_id)
            return rows, change.last_change()

    with changes.changing():
        read_detection(changes.store, detection_id)
        changes.unindex(*changes.deleting(delete))
        changes.refill()


def label(changes: Changes, detection_id: str, label: str) -> StoredDetection:
    """Say who a detection is: Gallery.label."""
    with changes.changing():
        with changes.writing() as change:
            if not change.set_label(detection_id, label):
                raise no_detection(detection_id)
        return read_detection(changes.store, detection_id)


def remove_label(changes: Changes, detection_id: str) -> None:
    """Say no more who a detection is: Gallery.remove_label."""

    def delete() -> int:
        with changes.store.write() as change:
            if not change.remove_label(detection_id):
                raise LabelNotFoundError(f"the detection {detection_id} has no label")
            return change.last_change()

    with changes.changing():
        read_detection(changes.store, detection_id)
        changes.answering.follow(changes.deleting(delete))
        changes.refill()


def check_length(detections: Detections, generation: Generation) -> None:
    """
    Raises:
        GalleryMismatchError: the embeddings have another length than the generation's.
    """
    dim = generation.model.embedding_dim
    if detections.embeddings.shape[1] != dim:
        raise GalleryMismatchError(
            f"expected embeddings of {dim} numbers, got {detections.embeddings.shape[1]}"
        )


def _find(changes: Changes, sha256: str) -> StoredScene | None:
    with changes.store.read() as snapshot:
        return snapshot.scene(sha256=sha256)


def _by_number(changes: Changes, people: Mapping[str, Detections]) -> dict[int, Detections]:
    """People by the numbers of their generations; those of generations that are gone not.

    Raises:
        GalleryMismatchError: embeddings of another length.
        GenerationSwappedError: the one that answers is not among them.
    """
    found: dict[int, Detections] = {}
    with changes.store.read() as snapshot:
        for id, detections in people.items():
            try:
                generation = generations.get(snapshot.connection, id)
            except GenerationNotFoundError:
                continue
            check_length(detections, generation)
            found[generation.number] = detections
    if changes.answering.generation.number not in found:
        raise GenerationSwappedError("the model was changed meanwhile")
    return found


@contextmanager
def _unless_stored(changes: Changes, sha256: str, *, placed: bool) -> Iterator[None]:
    """After a failure: no file without a row, unless the database is too ill to tell."""
    try:
        yield
    except DatabaseUnavailableError:
        raise  # it may still be committed: who opens the gallery next can tell
    except BaseException:
        with suppress(GalleryError):
            if placed and _find(changes, sha256) is None:
                changes.erase_original(sha256)
            elif placed:
                changes.answering.distrust()  # committed, yet the commit was said to fail
        raise
