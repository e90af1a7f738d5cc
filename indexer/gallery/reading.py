"""One scene, one person, one embedding out of the database, or the error that says why not."""

import numpy as np
from numpy.typing import NDArray

from indexer.database.store import Store
from indexer.errors import DetectionGoneError, DetectionNotFoundError, SceneNotFoundError
from indexer.records import StoredDetection, StoredScene


def read_scene(store: Store, id: str, generation: int | None = None) -> StoredScene:
    """A scene and its people, as a generation sees them, by its number; None is who answers.

    Raises:
        SceneNotFoundError: when there is none.
    """
    with store.read() as snapshot:
        scene = snapshot.scene(id=id, generation=generation)
    if scene is None:
        raise no_scene(id)
    return scene


def read_detection(store: Store, id: str, generation: int | None = None) -> StoredDetection:
    """One person, as a generation sees them, by its number; None is who answers.

    Raises:
        DetectionNotFoundError: when there is none.
        DetectionGoneError: when only another generation has it.
    """
    with store.read() as snapshot:
        detection = snapshot.detection(id, generation)
        scene_id = None if detection else snapshot.scene_of(id)
    if scene_id is not None:
        raise DetectionGoneError(
            f"{id} was seen by another model in the image {scene_id}; the one that "
            "answers does not see it"
        )
    if detection is None:
        raise no_detection(id)
    return detection


def read_embedding(store: Store, id: str, generation: int | None = None) -> NDArray[np.float32]:
    """The embedding [D] of a detection, of unit length.

    Raises:
        DetectionNotFoundError, DetectionGoneError: as read_detection does.
    """
    with store.read() as snapshot:
        embedding = snapshot.embedding(id, generation)
    if embedding is None:
        read_detection(store, id, generation)
        raise no_detection(id)
    return embedding


def no_scene(id: str) -> SceneNotFoundError:
    return SceneNotFoundError(f"there is no scene {id}")


def no_detection(id: str) -> DetectionNotFoundError:
    return DetectionNotFoundError(f"there is no detection {id}")
