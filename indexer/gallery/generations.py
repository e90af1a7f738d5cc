"""The generations of a gallery: begun, filled, activated and deleted.

Activating another generation (another model's people, see indexer/ingest/reindex.py) goes in steps,
and the process may die between any two:

    1  loaded      its index, beside the one that answers; nothing is changed yet
    2  checked     with changes held off: it has every scene, and the index has all its people
    3  swapping    the states of both generations, in one open transaction
    4  swapped     … on disk: after the next open it answers
    5  answering   searches that start now use it; those that run end on the one before
"""

from collections.abc import Mapping
from dataclasses import replace

from indexer.errors import (
    GalleryDamagedError,
    GalleryMismatchError,
    GenerationActiveError,
    GenerationBuildingError,
    GenerationNotFoundError,
    GenerationSwappedError,
)
from indexer.gallery.trail import Trail
from indexer.gallery.writer import Writer
from indexer.records import EVERY_SCENE, GalleryModel, Generation, GenerationCount
from indexer.rows import audit, change_log, generations, people, scenes
from models.detections import Detections

SCENES_AT_ONCE = 200  # of a generation that is deleted, in one transaction


class Generations:
    """The generations, as gallery.generations."""

    def __init__(self, writer: Writer, trail: Trail) -> None:
        self._writer = writer
        self._store = writer.store
        self._trail = trail

    def get(self, id: str) -> Generation:
        """
        Raises:
            GenerationNotFoundError: there is none.
        """
        with self._store.read() as connection:
            return generations.get(connection, id)

    def building(self) -> Generation | None:
        """The generation that is being built, if any: new scenes are stored in it, too."""
        with self._store.read() as connection:
            return generations.building(connection)

    def all(self) -> list[GenerationCount]:
        """All of them with their sizes, oldest first."""
        with self._store.read() as connection:
            return generations.counts(connection)

    def scenes_in(self, id: str) -> tuple[int, int]:
        """How many scenes a generation has, and how many scenes there are.

        Raises:
            GenerationNotFoundError: there is none.
        """
        with self._store.read() as connection:
            number = generations.get(connection, id).number
            had = generations.scenes_in(connection, number)
            return had, scenes.count(connection, EVERY_SCENE)

    def lacking(self, id: str, *, limit: int, after: int = 0) -> dict[int, str]:
        """At most limit scenes that a generation lacks, of those with numbers above after.

        Returns:
            Their ids by their numbers, ascending.

        Raises:
            GenerationNotFoundError: there is none.
        """
        with self._store.read() as connection:
            number = generations.get(connection, id).number
            return generations.lacking(connection, number, limit, after)

    def by_number(self, seen: Mapping[str, Detections]) -> dict[int, Detections]:
        """People by the numbers of their generations instead of the ids; unknown ids are left out.

        Raises:
            GalleryMismatchError: embeddings have another length than the generation's.
            GenerationSwappedError: the active generation is not among them.
        """
        found: dict[int, Detections] = {}
        with self._store.read() as connection:
            for id, detections in seen.items():
                try:
                    generation = generations.get(connection, id)
                except GenerationNotFoundError:
                    continue
                _check_length(detections, generation)
                found[generation.number] = detections
        if self._writer.index.generation.number not in found:
            raise GenerationSwappedError("the model was changed meanwhile")
        return found

    def begin(self, model: GalleryModel) -> Generation:
        """Begin to build the generation of a model, or go on with it: new scenes go there, too.

        Raises:
            GenerationActiveError: it is the active one.
            GenerationBuildingError: another one is being built.
        """
        with self._writer.changing(), self._store.write() as connection:
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

    def park(self, id: str) -> None:
        """Stop building: the generation stays as it is, new scenes are not stored in it.

        Raises:
            GenerationNotFoundError: there is none.
        """

        def end() -> None:
            with self._store.write() as connection:
                found = generations.get(connection, id)
                if found.state == "building":
                    generations.set_state(connection, found.number, "kept")

        with self._writer.changing():
            self._writer.deleting(end)

    def add_people(self, id: str, scene_id: str, detections: Detections) -> bool:
        """Store who is in a stored scene as the model of a generation that lacks it sees them.

        A person whose box nearly equals that of one in the active generation gets the same id.

        Returns:
            Whether it was stored; False when the scene is gone, or was stored meanwhile.

        Raises:
            GenerationNotFoundError: there is no such generation.
            GenerationActiveError: it is the active one, which has all scenes.
            GalleryMismatchError: the embeddings have another length than the generation's.
            StorageFullError: there is no space; nothing was stored.
        """
        writer = self._writer
        with writer.changing():
            writer.reserve.fill()
            with self._store.write() as connection:
                generation = generations.get(connection, id)
                if generation.state == "active":
                    raise GenerationActiveError(f"the generation {id} answers already")
                _check_length(detections, generation)
                added = people.add_to_scene(connection, scene_id, generation.number, detections)
                writer.on_step("people inserted")
            writer.on_step("people committed")
            return added is not None

    def activate(self, id: str) -> bool:
        """Let a generation answer from now on. The one before stays, to go back to.

        Its index is filled beside the one in use, so both are in memory for a while; searches and
        changes go on. Activating the active generation does nothing.

        Returns:
            False when it lacks scenes, and nothing was changed.

        Raises:
            GenerationNotFoundError: there is none.
            GalleryDamagedError: its index and the database disagree; nothing was changed.
            StorageFullError: nothing was changed.
        """
        writer, index = self._writer, self._writer.index
        generation = self.get(id)
        if generation.state == "active":
            return True
        fresh = index.load(generation)
        writer.on_step("loaded")
        with writer.changing():
            with self._store.read() as connection:
                if generations.get(connection, id).state == "active":
                    return True
                if generations.lacking(connection, generation.number, 1):
                    return False
                stored = people.rows_of(connection, generation.number)
            index.catch_up(fresh, stored)
            if len(stored) != len(fresh):
                raise GalleryDamagedError(
                    f"{id} has {len(stored)} people, and {len(fresh)} in its index"
                )
            writer.on_step("checked")
            before = index.generation
            with index.following():
                with self._store.write() as connection:
                    generations.activate(connection, generation.number)
                    change_log.record(connection, "generation_activated", id, before=before.id)
                    number = change_log.last(connection)
                    generation = generations.get(connection, id)
                    writer.on_step("swapping")
                writer.on_step("swapped")
                fresh.generation, fresh.change = generation, number
                index.live = fresh
            writer.on_step("answering")
        return True

    def delete(self, id: str) -> None:
        """Delete a generation with its people; searches and changes go on.

        Raises:
            GenerationNotFoundError: there is none.
            GenerationActiveError: it is the active one.
        """
        generation = self.get(id)
        self._trail.note("generation_deleted", id)
        if generation.state != "active":
            self._writer.index.drop(generation)

        def delete_some() -> bool:
            with self._store.write() as connection:
                try:
                    found = generations.get(connection, id)
                except GenerationNotFoundError:  # another call has done the rest
                    return True
                if found.state == "active":
                    raise GenerationActiveError(f"the generation {id} answers; it stays")
                generations.set_state(connection, found.number, "kept")
                return generations.remove_some(connection, found.number, SCENES_AT_ONCE)

        gone = False
        while not gone:
            with self._writer.changing():
                gone = self._writer.deleting(delete_some)


def _check_length(detections: Detections, generation: Generation) -> None:
    """
    Raises:
        GalleryMismatchError: the embeddings have another length than the generation's.
    """
    dim = generation.model.embedding_dim
    if detections.embeddings.shape[1] != dim:
        raise GalleryMismatchError(
            f"expected embeddings of {dim} numbers, got {detections.embeddings.shape[1]}"
        )
