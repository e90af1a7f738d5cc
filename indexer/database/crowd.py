"""Many stored people at once, with their labels: what evaluations and calibrations are made of."""

from collections.abc import Collection, Iterable

import numpy as np

from indexer.database.store import People, Snapshot
from indexer.errors import CrowdTooLargeError
from indexer.records import Crowd, Generation, SceneFilter
from models.detections import Detections


def labelled(snapshot: Snapshot, generation: Generation) -> Crowd:
    """Everybody of a generation who has a label; scenes without anybody who has are left out."""
    labels = snapshot.labels(generation=generation.number)
    people = list(snapshot.people(labels))
    numbers = {number for some in people for number in some.scenes.tolist()}
    return _crowd(snapshot, numbers, people, labels, generation.model.embedding_dim)


def everybody(
    snapshot: Snapshot,
    generation: Generation,
    *,
    scene_ids: Collection[str] | None,
    most: int | None,
) -> Crowd:
    """A generation's people, of all scenes or of some; scenes without anybody are there as well.

    Args:
        scene_ids: scenes that are gone are left out.
        most: how many people to read at most: each takes dim × 4 bytes of memory.

    Raises:
        CrowdTooLargeError: when there are more people.
    """
    if scene_ids is None:
        numbers = snapshot.numbers(SceneFilter())
        found = snapshot.all_people(generation.number)
    else:
        numbers = snapshot.numbers_of(set(scene_ids))
        found = snapshot.people_in(set(scene_ids), generation.number)
    people: list[People] = []
    count = 0
    for some in found:
        people.append(some)
        count += len(some.rows)
        if most is not None and count > most:
            raise CrowdTooLargeError(
                f"There are more than {most:,} people in the scenes.", limits={"most_people": most}
            )
    labels = snapshot.labels(generation=generation.number)
    dim = generation.model.embedding_dim
    return _crowd(snapshot, numbers.tolist(), people, labels, dim)


def _crowd(
    snapshot: Snapshot,
    numbers: Iterable[int],
    people: list[People],
    labels: dict[int, str],
    dim: int,
) -> Crowd:
    ordered = np.array(sorted(numbers), np.int64)
    scenes = snapshot.scenes_numbered(ordered.tolist())
    rows = np.concatenate([np.zeros(0, np.int64), *(some.rows for some in people)])
    of_scene = np.concatenate([np.zeros(0, np.int64), *(some.scenes for some in people)])
    ids = np.array([id for some in people for id in some.ids], object)
    every = [Detections.empty(dim), *(some.detections for some in people)]
    joined = Detections(
        *(
            np.concatenate([getattr(one, name) for one in every])
            for name in ("boxes", "scores", "embeddings")
        )
    )
    by_scene = np.lexsort([rows, of_scene])
    starts = np.searchsorted(of_scene[by_scene], ordered)
    places = np.split(by_scene, starts[1:]) if len(ordered) else []
    return Crowd(
        scenes=tuple(scenes[number] for number in ordered.tolist()),
        ids=tuple(tuple(ids[own].tolist()) for own in places),
        labels=tuple(tuple(labels.get(row) for row in rows[own].tolist()) for own in places),
        people=tuple(joined.select(own) for own in places),
    )
