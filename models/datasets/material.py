"""What training scenes are composed of, parted into training's and validation's."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.datasets.cutouts import DrawnPerson, Person, film_people, read_crops, read_film
from models.datasets.drawing import random_look
from models.datasets.lenses import Lens
from models.datasets.photos import Photo, read_photos
from models.datasets.read import read_dataset
from models.datasets.scene import Scene
from models.datasets.sprites import read_sprites
from models.datasets.synthetic import Camera
from models.errors import DatasetError

VALIDATION_PART = 10
"""Every so manieth person, pedestrian scene and place of photographs is for validation."""
LEAST_PEOPLE = VALIDATION_PART + 1
FILM_DRESSES = 24


@dataclass
class Material:
    """The material for one part, training or validation.

    Attributes:
        people: who has an identity; their place is their person id.
        scenes: exhaustively labelled pedestrian scenes.
        stills: backgrounds that show nobody, [H, W, 3].
        photos: photographs that show nobody.
        cameras: with drawn backgrounds; `write_composed` makes them.
        lenses: how views are rendered, none: as they are composed; `write_composed` makes them.
    """

    people: list[Person] = field(default_factory=list)
    scenes: list[Scene] = field(default_factory=list)
    stills: list[NDArray[np.uint8]] = field(default_factory=list)
    photos: list[Photo] = field(default_factory=list)
    cameras: list[Camera] = field(default_factory=list)
    lenses: list[Lens] = field(default_factory=list)


def gather(
    crops: Sequence[Path],
    scenes: Sequence[Path],
    videos: Sequence[Path],
    drawn: int,
    *,
    people: Sequence[Path] = (),
    photos: Sequence[Path] = (),
    seed: int,
) -> tuple[Material, Material]:
    """Read all material and split it into training and validation.

    Args:
        crops: directories or ZIPs of crops named as Market-1501 does.
        scenes: datasets of scenes, of which those are used in which every person is labelled.
        videos: films as `film_people` takes them.
        drawn: people to draw, 0 or more.
        people: ZIPs of rendered people, or directories of such.
        photos: directories of photographs that show nobody.
        seed: 0 or more; of the drawn people and of the clothes of filmed ones.

    Returns:
        Training's and validation's; of each source the first and then every tenth person, scene
        and place of photographs are validation's, still backgrounds of films are training's.

    Raises:
        DatasetError: something cannot be read, no scene of a dataset has everybody labelled, or
            there are too few people.
    """
    parts = Material(), Material()
    for source in crops:
        _part(read_crops(source), [part.people for part in parts])
    for source in people:
        _part(read_sprites(source), [part.people for part in parts])
    for film in videos:
        filmed, still = film_people(read_film(film))
        if not filmed:
            raise DatasetError(f"{film}: nobody found who walks in after an empty beginning")
        rng = np.random.default_rng((seed, 5))
        for number, person in enumerate(filmed):
            dressed = [person, *(person.redressed(rng) for _ in range(FILM_DRESSES))]
            parts[number % VALIDATION_PART == 0].people.extend(dressed)
        parts[0].stills.append(still)
    looks = [random_look(np.random.default_rng((seed, 1, number))) for number in range(drawn)]
    _part([DrawnPerson(look) for look in looks], [part.people for part in parts])
    for path in scenes:
        dataset = read_dataset(path, split="train")
        every = [scene for scene in dataset.scenes if scene.exhaustive]
        if not every:
            raise DatasetError(
                f"{path}: expected scenes in which every person is labelled, got none among "
                f"{len(dataset.scenes)}"
            )
        _part(every, [part.scenes for part in parts])
    for directory in photos:
        of_place: dict[str, list[Photo]] = {}
        for photo in read_photos(directory):
            of_place.setdefault(photo.place, []).append(photo)
        for number, together in enumerate(of_place.values()):
            parts[number % VALIDATION_PART == 0].photos.extend(together)
    training, validation = (len(part.people) for part in parts)
    if training + validation < LEAST_PEOPLE or not (training and validation):
        raise DatasetError(
            f"expected {LEAST_PEOPLE} people or more, some for training and some for validation, "
            f"got {training} and {validation}: pass --crops, --people, --video or --drawn"
        )
    return parts


def _part(things: Sequence[Any], parts: Sequence[list[Any]]) -> None:
    for number, thing in enumerate(things):
        parts[number % VALIDATION_PART == 0].append(thing)
