"""What every dataset reader yields: scenes with people in them, and queries."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from models.errors import DatasetError, ImageError
from models.image import read_image, read_size

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
        flat = ~_has_area(self.boxes)
        if flat.any():
            index = int(np.argmax(flat))
            raise DatasetError(f"{self.path}: box {index}: {_expected_area(self.boxes[index])}")
        if count and self.person_ids.min() < UNLABELED:
            raise DatasetError(
                f"{self.path}: expected person ids of {UNLABELED} or more, "
                f"got {self.person_ids.min()}"
            )

    def read(self) -> NDArray[np.uint8]:
        """Pixels [H, W, 3], RGB and upright.

        Raises:
            DatasetError: The file is missing or not a picture, or its size is not the one of the
                annotations.
        """
        try:
            image = read_image(self.path)
        except (ImageError, OSError) as error:
            raise DatasetError(f"{self.path}: {error}") from error
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
        gallery: [G] int64, indices of the scenes to search. A scene may stand there twice, where
            the dataset's own lists have it twice.
        truth: [P, 2] int64, where the person is to be found as the dataset's own lists say: place
            in the gallery, index of the box in the scene there. None: in every scene of the
            gallery, every box with the person's id that is not ignored.
    """

    scene: int
    box: NDArray[np.float32]
    person_id: int
    gallery: NDArray[np.int64]
    truth: NDArray[np.int64] | None = None

    def __post_init__(self) -> None:
        what = f"query for person {self.person_id} in scene {self.scene}"
        if self.box.shape != (4,):
            raise DatasetError(f"{what}: expected a box of shape (4,), got {self.box.shape}")
        if not _has_area(self.box[None])[0]:
            raise DatasetError(f"{what}: {_expected_area(self.box)}")
        if self.person_id < 0:
            raise DatasetError(f"{what}: expected a labelled person")
        if self.gallery.ndim != 1 or self.gallery.dtype != np.int64:
            raise DatasetError(
                f"{what}: expected a flat int64 gallery, "
                f"got {self.gallery.shape} and {self.gallery.dtype}"
            )
        if self.truth is not None:
            _check_truth(self.truth, len(self.gallery), what)


@dataclass(frozen=True, eq=False)
class SceneDataset:
    """Scenes, and the queries asked of them.

    Attributes:
        source_ids: The dataset's own number of each labelled person: person id p here is
            source_ids[p] there.
        licence: What the pictures may be used for, in the source's words.
        protocol: The rules by which what a model finds is scored: "scenes", this project's own, or
            "published", those of the code that CUHK-SYSU and PRW are compared with.

    Raises:
        DatasetError: A person id or a query points at nothing.
    """

    name: str
    scenes: tuple[Scene, ...]
    queries: tuple[Query, ...]
    licence: str
    source_ids: tuple[int, ...]
    protocol: str = "scenes"

    def __post_init__(self) -> None:
        for scene in self.scenes:
            if len(scene.person_ids) and scene.person_ids.max() >= len(self.source_ids):
                raise DatasetError(
                    f"{scene.path}: expected person ids below {len(self.source_ids)}, "
                    f"got {scene.person_ids.max()}"
                )
        counts = np.array([len(scene.boxes) for scene in self.scenes], dtype=np.int64)
        for number, query in enumerate(self.queries):
            what = f"{self.name}: query {number}"
            for named in (np.array([query.scene]), query.gallery):
                wrong = named[(named < 0) | (named >= len(self.scenes))]
                if len(wrong):
                    raise DatasetError(
                        f"{what} names scene {wrong[0]} of {len(self.scenes)} scenes"
                    )
            if query.person_id >= len(self.source_ids):
                raise DatasetError(
                    f"{what} names person {query.person_id} of {len(self.source_ids)} people"
                )
            if query.truth is not None:
                places, boxes = query.truth.T
                beyond = np.flatnonzero(boxes >= counts[query.gallery[places]])
                if len(beyond):
                    scene = self.scenes[query.gallery[places[beyond[0]]]]
                    raise DatasetError(
                        f"{what} names box {boxes[beyond[0]]} of {len(scene.boxes)} boxes "
                        f"in {scene.name}"
                    )

    @property
    def person_ids(self) -> NDArray[np.int64]:
        """Sorted ids of the labelled people who are in some scene."""
        present = {int(person) for scene in self.scenes for person in scene.person_ids}
        return np.array(sorted(present - {UNLABELED}), dtype=np.int64)

    def first(self, count: int) -> Self:
        """The first scenes, with the queries that can be asked and answered within them."""
        scenes = self.scenes[:count]
        shown_in: dict[int, list[int]] = {}
        for index, scene in enumerate(scenes):
            for person in np.unique(scene.person_ids[~scene.ignore]).tolist():
                shown_in.setdefault(person, []).append(index)
        queries = []
        for query in self.queries:
            if query.scene >= len(scenes):
                continue
            kept = query.gallery < len(scenes)
            gallery = query.gallery[kept]
            truth = query.truth
            if truth is None:
                found = bool(np.isin(shown_in.get(query.person_id, []), gallery).any())
            else:
                places, boxes = truth[kept[truth[:, 0]]].T
                truth = np.column_stack([(np.cumsum(kept) - 1)[places], boxes])
                found = len(truth) > 0
            if found:
                queries.append(replace(query, gallery=gallery, truth=truth))
        return replace(self, scenes=scenes, queries=tuple(queries))


def require_pictures(source: Path, pictures: Sequence[Path]) -> None:
    """Raise DatasetError, naming the file that lists them, unless all pictures are there."""
    missing = [picture for picture in pictures if not picture.is_file()]
    if missing:
        raise DatasetError(
            f"{source}: {len(missing)} of {len(pictures)} pictures are missing, first {missing[0]}"
        )


def picture_size(path: Path) -> tuple[int, int]:
    """Width and height of the upright picture, in pixels; they are not decoded.

    Raises:
        DatasetError: The file is not a picture of a format that is read.
    """
    try:
        return read_size(path)
    except (ImageError, OSError) as error:
        raise DatasetError(f"{path}: not readable as a picture: {error}") from error


def check_size(path: Path, said: tuple[int, int] | None) -> tuple[int, int]:
    """Width and height of the upright picture, which are as its annotations say, where they do.

    Raises:
        DatasetError: They are others, or the file is not a picture of a format that is read.
    """
    width, height = picture_size(path)
    if said is not None and said != (width, height):
        raise DatasetError(
            f"{path}: the annotations say {said[0]} × {said[1]} pixels, "
            f"the picture has {width} × {height}"
        )
    return width, height


def _has_area(boxes: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Which of boxes [N, 4] are finite and have an area."""
    sides = boxes[:, 2:] > boxes[:, :2]
    return np.asarray(np.isfinite(boxes).all(axis=1) & sides.all(axis=1))


def _expected_area(box: NDArray[np.float32]) -> str:
    return f"expected finite x1 y1 x2 y2 with an area, got {[float(value) for value in box]}"


def _check_truth(truth: NDArray[np.int64], gallery_size: int, what: str) -> None:
    if truth.ndim != 2 or truth.shape[1] != 2 or truth.dtype != np.int64:
        raise DatasetError(
            f"{what}: expected int64 truth of shape (P, 2), got {truth.shape} and {truth.dtype}"
        )
    places, boxes = truth.T
    if len(truth) and (places.min() < 0 or places.max() >= gallery_size or boxes.min() < 0):
        raise DatasetError(
            f"{what}: expected truth within a gallery of {gallery_size} scenes, got places "
            f"{places.min()} to {places.max()} and boxes from {boxes.min()}"
        )
    if len(np.unique(truth, axis=0)) != len(truth):
        raise DatasetError(f"{what}: the same box at the same place of the gallery is named twice")
