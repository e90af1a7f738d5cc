"""What a model found in a dataset: detected once, then scored in any number of ways."""

import json
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from models.boxes import box_iou
from models.datasets.scene import Query, SceneDataset
from models.detections import Detections
from models.errors import DatasetError

SAME_PERSON_IOU = 0.5
"""A detection that overlaps a query's box more is the person themself, not their company."""

DETECTION_FIELDS = ("boxes", "scores", "embeddings")
QUERY_FIELDS = ("query_scenes", "query_boxes", "query_embeddings")
# What NumPy, zip files and JSON raise at a file that is damaged or something else.
UNREADABLE = (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile, zlib.error)


@dataclass(frozen=True, eq=False)
class Found:
    """The people found in each scene of a dataset, and what its queries look like to the model.

    Attributes:
        scenes: Their names.
        detections: Of each scene.
        query_scenes: [Q] int64, the scene that each query is shown in.
        query_boxes: [Q, 4] float32, its box there.
        query_embeddings: [Q, D] float32, unit length.
        gt_boxes: Whether the boxes are the annotated ones: nothing was detected.
        models: Name and fingerprint of what made them, by role.
    """

    scenes: tuple[str, ...]
    detections: tuple[Detections, ...]
    query_scenes: NDArray[np.int64]
    query_boxes: NDArray[np.float32]
    query_embeddings: NDArray[np.float32]
    gt_boxes: bool = False
    models: dict[str, dict[str, str]] = field(default_factory=dict)

    @cached_property
    def _places(self) -> dict[tuple[int, bytes], int]:
        asked = zip(self.query_scenes.tolist(), self.query_boxes, strict=True)
        return {(scene, box.tobytes()): place for place, (scene, box) in enumerate(asked)}

    def check(self, dataset: SceneDataset) -> None:
        """Raises DatasetError where the dataset's scenes are not those that were searched."""
        names = tuple(scene.name for scene in dataset.scenes)
        if names != self.scenes:
            raise DatasetError(
                f"{dataset.name}: expected the {len(self.scenes)} scenes that were searched "
                f"(from {', '.join(self.scenes[:2])} on), "
                f"got {len(names)} (from {', '.join(names[:2])} on)"
            )

    def embeddings_of(self, queries: Sequence[Query]) -> NDArray[np.float32]:
        """[Q, D] unit embeddings of queries that were described, in any order and number.

        Raises:
            DatasetError: A query's scene and box are none of those that were described.
        """
        keys = [(query.scene, query.box.tobytes()) for query in queries]
        for query, key in zip(queries, keys, strict=True):
            if key not in self._places:
                raise DatasetError(
                    f"the query for person {query.person_id} in scene {query.scene} is none of "
                    f"the {len(self.query_scenes)} queries that were described"
                )
        return self.query_embeddings[np.array([self._places[key] for key in keys], np.int64)]

    def company(self, query: Query, *, min_score: float) -> NDArray[np.float32]:
        """[K, D] embeddings: the query's person, then the others in its scene, surest first."""
        found = self.detections[query.scene]
        (person,) = self.embeddings_of([query])
        return in_company(person, query.box, found.select(found.scores >= min_score))

    def save(self, path: Path) -> None:
        """Write one .npz file."""
        about = {"scenes": self.scenes, "gt_boxes": self.gt_boxes, "models": self.models}
        arrays: dict[str, Any] = {name: getattr(self, name) for name in QUERY_FIELDS}
        for name in DETECTION_FIELDS:
            arrays[name] = np.concatenate([getattr(found, name) for found in self.detections])
        counts = np.array([len(found) for found in self.detections])
        with path.open("wb") as file:
            np.savez(file, about=np.array(json.dumps(about)), counts=counts, **arrays)

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read what `save` wrote; DatasetError where the file is missing or something else."""
        try:
            with path.open("rb") as raw, np.load(raw) as file:
                about = json.loads(str(file["about"]))
                parts = [
                    np.split(file[name], np.cumsum(file["counts"])[:-1])
                    for name in DETECTION_FIELDS
                ]
                return cls(
                    scenes=tuple(about["scenes"]),
                    detections=tuple(Detections(*part) for part in zip(*parts, strict=True)),
                    gt_boxes=about["gt_boxes"],
                    models=about["models"],
                    **{name: file[name] for name in QUERY_FIELDS},
                )
        except UNREADABLE as error:
            raise DatasetError(f"{path}: not readable as saved detections: {error}") from error


def in_company(
    person: NDArray[np.float32], box: NDArray[np.floating], people: Detections
) -> NDArray[np.float32]:
    """[K, D] embeddings: a person [D], then the others in the scene, surest first.

    Args:
        box: [4], the person's.
        people: everybody found in the scene; who overlaps the box a lot is the person themself.
    """
    overlaps = box_iou(people.boxes.astype(np.float64), box[None].astype(np.float64))
    others = people.select(overlaps[:, 0] <= SAME_PERSON_IOU)
    surest_first = np.argsort(-others.scores, kind="stable")
    return np.concatenate([person[None], others.embeddings[surest_first]])
