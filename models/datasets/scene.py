"""What every dataset reader yields: scenes with people in them, and queries."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from models.errors import DatasetError
from models.image import read_image

UNLABELED = -1
"""The person id of somebody nobody named: a person for detection, a wrong answer in search."""


@dataclass(frozen=True, eq=False)
class Scene:
    """One picture and who is in it.

    Attributes:
        name: Unique in its dataset.
        path: The picture's file.
        width, height: Of the upright picture, in pixels.
        boxes: [N, 4] float32, x1 y1 x2 y2 in pixels; they may reach past the picture's edge.
        person_ids: [N] int64, 0 or more, or UNLABELED.
        ignore: [N] bool, people the source leaves out: neither required nor counted as wrong.
        camera: Which camera took it.
        exhaustive: Whether every person in the picture has a box.

    Raises:
        DatasetError: A field's shape or type is not as above, or a box has no area.
    """

    name: str
    path: Path
    width: int
    height: int
    boxes: NDArray[np.float32]
    person_ids: NDArray[np.int64]
    ignore: NDArray[np.bool_]
    camera: str
    exhaustive: bool = True

    def __post_init__(self) -> None:
        count = len(self.boxes)
        if self.width < 1 or self.height < 1:
            raise DatasetError(
                f"{self.path}: expected a width and height of at least 1, "
                f"got {self.width} × {self.height}"
            )
        for field, array, shape, dtype in (
            ("boxes", self.boxes, (count, 4), np.float32),
            ("person_ids", self.person_ids, (count,), np.int64),
            ("ignore", self.ignore, (count,), np.bool_),
        ):
            if array.shape != shape or array.dtype != dtype:
                raise DatasetError(
                    f"{self.path}: expected {field} of shape {shape} and type {np.dtype(dtype)}, "
                    f"got {array.shape} and {array.dtype}"
                )
        for index, box in enumerate(self.boxes):
            _check_box(box, f"{self.path}: box {index}")
        if count and self.person_ids.min() < UNLABELED:
            raise DatasetError(
                f"{self.path}: expected person ids of {UNLABELED} or more, "
                f"got {self.person_ids.min()}"
            )

    def read(self) -> NDArray[np.uint8]:
        """Pixels [H, W, 3], RGB and upright.

        Raises:
            ImageError: The file is not a picture.
            DatasetError: Its size is not the one of the annotations.
        """
        image = read_image(self.path)
        if (image.width, image.height) != (self.width, self.height):
            raise DatasetError(
                f"{self.path}: the annotations say {self.width} × {self.height} pixels, "
                f"the picture has {image.width} × {image.height}"
            )
        return image.pixels


@dataclass(frozen=True, eq=False)
class Query:
    """A person to look for.

    Attributes:
        scene: Index of the scene the person is shown in.
        box: [4] float32, x1 y1 x2 y2 in that scene.
        person_id: Who it is; never UNLABELED.
        gallery: [G] int64, indices of the scenes to search, each at most once.
    """

    scene: int
    box: NDArray[np.float32]
    person_id: int
    gallery: NDArray[np.int64]

    def __post_init__(self) -> None:
        what = f"query for person {self.person_id} in scene {self.scene}"
        if self.box.shape != (4,):
            raise DatasetError(f"{what}: expected a box of shape (4,), got {self.box.shape}")
        _check_box(self.box, what)
        if self.person_id < 0:
            raise DatasetError(f"{what}: expected a labelled person")
        if self.gallery.ndim != 1 or self.gallery.dtype != np.int64:
            raise DatasetError(
                f"{what}: expected a flat int64 gallery, "
                f"got {self.gallery.shape} and {self.gallery.dtype}"
            )
        if len(np.unique(self.gallery)) != len(self.gallery):
            raise DatasetError(f"{what}: a scene is in the gallery twice")


@dataclass(frozen=True, eq=False)
class SceneDataset:
    """Scenes, and the queries asked of them.

    Attributes:
        source_ids: The dataset's own number of each labelled person: person id p here is
            source_ids[p] there.
        licence: What the pictures may be used for, in the source's words.

    Raises:
        DatasetError: A person id or a query points at nothing.
    """

    name: str
    scenes: tuple[Scene, ...]
    queries: tuple[Query, ...]
    licence: str
    source_ids: tuple[int, ...]

    def __post_init__(self) -> None:
        for scene in self.scenes:
            if len(scene.person_ids) and scene.person_ids.max() >= len(self.source_ids):
                raise DatasetError(
                    f"{scene.path}: expected person ids below {len(self.source_ids)}, "
                    f"got {scene.person_ids.max()}"
                )
        for number, query in enumerate(self.queries):
            named = np.append(query.gallery, query.scene)
            if named.min() < 0 or named.max() >= len(self.scenes):
                raise DatasetError(
                    f"{self.name}: query {number} names scene {named.max()} "
                    f"of {len(self.scenes)} scenes"
                )
            if query.person_id >= len(self.source_ids):
                raise DatasetError(
                    f"{self.name}: query {number} names person {query.person_id} "
                    f"of {len(self.source_ids)} people"
                )

    @property
    def person_ids(self) -> NDArray[np.int64]:
        """Sorted ids of the labelled people who are in some scene."""
        present = {int(person) for scene in self.scenes for person in scene.person_ids}
        return np.array(sorted(present - {UNLABELED}), dtype=np.int64)

    def first(self, count: int) -> Self:
        """The first scenes, with the queries that can be asked and answered within them."""
        scenes = self.scenes[:count]
        queries = []
        for query in self.queries:
            gallery = query.gallery[query.gallery < len(scenes)]
            found = any(
                ((scenes[i].person_ids == query.person_id) & ~scenes[i].ignore).any()
                for i in gallery
            )
            if query.scene < len(scenes) and found:
                queries.append(replace(query, gallery=gallery))
        return replace(self, scenes=scenes, queries=tuple(queries))


def _check_box(box: NDArray[np.float32], what: str) -> None:
    x1, y1, x2, y2 = box
    if not np.isfinite(box).all() or x2 <= x1 or y2 <= y1:
        raise DatasetError(
            f"{what}: expected finite x1 y1 x2 y2 with an area, got {[float(v) for v in box]}"
        )
