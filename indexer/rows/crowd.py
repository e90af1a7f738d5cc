"""Many stored people at once, with their labels: what evaluations and calibrations are made of.

Functions take a connection of Store.read.
"""

from collections.abc import Collection, Iterable, Iterator

import numpy as np
from sqlalchemy import Connection

from indexer.database.statements import chunks
from indexer.errors import CrowdTooLargeError
from indexer.records import EVERY_SCENE, Crowd, Generation
from indexer.rows import labels, people, scenes
from indexer.rows.people import StoredPeople
from models.detections import Detections


def labelled(connection: Connection, generation: Generation) -> Crowd:
    """Everybody of a generation who has a label; scenes without anybody who has are left out."""
    given = labels.of_generation(connection, generation.number)
    found = list(people.at_rows(connection, given))
    numbers = {number for some in found for number in some.scenes.tolist()}
    return _crowd(connection, numbers, found, given, generation.model.embedding_dim)


def everybody(
    connection: Connection,
    generation: Generation,
    *,
    scene_ids: Collection[str] | None,
    most: int | None,
) -> Crowd:
    """A generation's people, of all scenes or of some; scenes without anybody are included.

    Args:
        scene_ids: unknown ids are left out.
        most: how many people to read at most: each takes dim × 4 bytes of memory.

    Raises:
        CrowdTooLargeError: when there are more people.
    """
    if scene_ids is None:
        numbers = scenes.numbers(connection, EVERY_SCENE).tolist()
        read = people.everybody(connection, generation.number)
    else:
        numbers = scenes.numbers_of(connection, set(scene_ids)).tolist()
        read = _in_scenes(connection, numbers, generation.number)
    found: list[StoredPeople] = []
    count = 0
    for some in read:
        found.append(some)
        count += len(some.rows)
        if most is not None and count > most:
            raise CrowdTooLargeError(
                f"There are more than {most:,} people in the scenes.", limits={"most_people": most}
            )
    given = labels.of_generation(connection, generation.number)
    return _crowd(connection, numbers, found, given, generation.model.embedding_dim)


def _in_scenes(
    connection: Connection, numbers: list[int], generation: int
) -> Iterator[StoredPeople]:
    for chunk in chunks(numbers):
        some = people.in_scenes(connection, chunk, generation)
        if some is not None:
            yield some


def _crowd(
    connection: Connection,
    numbers: Iterable[int],
    found: list[StoredPeople],
    given: dict[int, str],
    dim: int,
) -> Crowd:
    ordered = np.array(sorted(numbers), np.int64)
    about = scenes.numbered(connection, ordered.tolist())
    rows = np.concatenate([np.zeros(0, np.int64), *(some.rows for some in found)])
    of_scene = np.concatenate([np.zeros(0, np.int64), *(some.scenes for some in found)])
    ids = np.array([id for some in found for id in some.ids], object)
    every = [Detections.empty(dim), *(some.detections for some in found)]
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
        scenes=tuple(about[number] for number in ordered.tolist()),
        ids=tuple(tuple(ids[own].tolist()) for own in places),
        labels=tuple(tuple(given.get(row) for row in rows[own].tolist()) for own in places),
        people=tuple(joined.select(own) for own in places),
    )
