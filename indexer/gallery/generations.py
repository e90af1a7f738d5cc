"""Generations are begun, filled, let answer and deleted.

Letting another generation answer (another model's people, see indexer/ingest/reindex.py) goes in
steps, and the process may die between any two:

    1  loaded      its index, beside the one that answers; nothing is changed yet
    2  checked     with changes held off: it has every scene, and the index has all its people
    3  swapping    the states of both generations, in one open transaction
    4  swapped     … on disk: after the next open it answers
    5  answering   searches that start now take it; those that run end on the one before
"""

from dataclasses import replace

from indexer.database import audit, generations
from indexer.errors import (
    GalleryDamagedError,
    GenerationActiveError,
    GenerationBuildingError,
    GenerationNotFoundError,
)
from indexer.gallery.scenes import check_length
from indexer.gallery.writer import Changes
from indexer.records import GalleryModel, Generation
from models.detections import Detections

FORGOTTEN_AT_ONCE = 200  # scenes of a generation that is deleted


def begin(changes: Changes, model: GalleryModel) -> Generation:
    """Begin to build the generation of a model, or go on: Gallery.begin_generation."""
    with changes.changing(), changes.store.write() as change:
        connection = change.connection
        found = generations.of_model(connection, model.fingerprint)
        if found is not None and found.state == "active":
            raise GenerationActiveError(f"the gallery answers with {model.name} already")
        other = generations.building(connection)
        if other is not None and (found is None or other.number != found.number):
            raise GenerationBuildingError(f"{other.model.name} is being indexed already")
        if found is None:
            found = generations.begin(connection, model, "building")
            audit.record(connection, "generation_begun", found.id, {"model": model.name})
        else:
            path = model.path or found.model.path
            generations.name_model(connection, found.number, replace(model, path=path))
            generations.set_state(connection, found.number, "building")
        return generations.get(connection, found.id)


def keep(changes: Changes, id: str) -> None:
    """End building: Gallery.keep_generation."""

    def end() -> None:
        with changes.store.write() as change:
            found = generations.get(change.connection, id)
            if found.state == "building":
                generations.set_state(change.connection, found.number, "kept")

    with changes.changing():
        changes.deleting(end)


def add_people(changes: Changes, id: str, scene_id: str, detections: Detections) -> bool:
    """Store who is in a scene as another model sees them: Gallery.add_people."""
    with changes.changing():
        changes.reserve.fill()
        with changes.store.write() as change:
            generation = generations.get(change.connection, id)
            if generation.state == "active":
                raise GenerationActiveError(f"the generation {id} answers already")
            check_length(detections, generation)
            added = change.add_people(scene_id, generation.number, detections)
            changes.on_step("people inserted")
        changes.on_step("people committed")
        return added is not None


def activate(changes: Changes, id: str) -> bool:
    """Let a generation answer from now on: Gallery.activate."""
    store, answering = changes.store, changes.answering
    with store.read() as snapshot:
        generation = generations.get(snapshot.connection, id)
    if generation.state == "active":
        return True
    fresh = answering.load(generation)
    changes.on_step("loaded")
    with changes.changing():
        with store.read() as snapshot:
            if generations.get(snapshot.connection, id).state == "active":
                return True
            if generations.lacking(snapshot.connection, generation.number, 1):
                return False
            stored = snapshot.rows_of(generation.number)
        answering.catch_up(fresh, stored)
        if len(stored) != len(fresh):
            raise GalleryDamagedError(
                f"{id} has {len(stored)} people, and {len(fresh)} in its index"
            )
        changes.on_step("checked")
        before = answering.generation
        with answering.following():
            with store.write() as change:
                generations.activate(change.connection, generation.number)
                change.note_change("generation_activated", id, before=before.id)
                number = change.last_change()
                generation = generations.get(change.connection, id)
                changes.on_step("swapping")
            changes.on_step("swapped")
            fresh.generation, fresh.change = generation, number
            answering.live = fresh
        changes.on_step("answering")
    return True


def delete(changes: Changes, id: str) -> None:
    """Delete a generation with its people: Gallery.delete_generation."""
    with changes.store.read() as snapshot:
        generation = generations.get(snapshot.connection, id)
    changes.note("generation_deleted", id)
    if generation.state != "active":
        changes.answering.drop(generation)

    def forget_some() -> bool:
        with changes.store.write() as change:
            try:
                found = generations.get(change.connection, id)
            except GenerationNotFoundError:  # another call has done the rest
                return True
            if found.state == "active":
                raise GenerationActiveError(f"the generation {id} answers; it stays")
            generations.set_state(change.connection, found.number, "kept")
            return generations.remove_some(change.connection, found.number, FORGOTTEN_AT_ONCE)

    gone = False
    while not gone:
        with changes.changing():
            gone = changes.deleting(forget_some)
