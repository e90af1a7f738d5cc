"""A teacher's answers as training uses them: about the mean of all, by what they are of."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from models.datasets.crops import key_of
from models.datasets.scene import UNLABELED, Scene
from models.datasets.teacher import Answers, boxes_of
from models.errors import DatasetError


class TeachersAnswers:
    """What a teacher said of crops and of people in scenes, from one or more files.

    The mean of all is taken from each, which is then made a unit vector again: a teacher's answers
    share a direction that tells nobody from anybody, and without it they rank a little better.
    """

    def __init__(self, paths: Sequence[Path], *, dim: int) -> None:
        """Read them.

        Args:
            dim: length of an embedding, which the answers must have.

        Raises:
            DatasetError: a file is not usable, of another teacher, or of another length.
        """
        files = [Answers.read(path) for path in paths]
        self.names = ", ".join(map(str, paths))
        teachers = sorted({file.teacher for file in files})
        if len(teachers) > 1:
            raise DatasetError(f"{self.names}: expected one teacher, got {', '.join(teachers)}")
        joint = {key: vector for file in files for key, vector in file.vectors.items()}
        if not joint:
            raise DatasetError(f"{self.names}: no answers in them")
        vectors = np.array(list(joint.values()), np.float32)
        if vectors.shape[1] != dim:
            raise DatasetError(
                f"{self.names}: the answers have {vectors.shape[1]} numbers, and an embedding {dim}"
            )
        vectors = _unit(vectors - vectors.mean(axis=0))
        self._place = {key: place for place, key in enumerate(joint)}
        self._vectors = vectors.astype(np.float16)
        self._none = np.zeros(dim, np.float32)

    def __len__(self) -> int:
        return len(self._place)

    def of_crop(self, encoded: bytes) -> NDArray[np.float32]:
        """About a crop, given by its encoded picture: [D], of length 1; zeros: not asked."""
        return self._of(key_of(encoded))

    def of_scene(self, scene: Scene) -> NDArray[np.float32]:
        """About the people of a scene who count [N, D], rows of zeros for those not asked about.

        Raises:
            DatasetError: the picture cannot be read.
        """
        keys, _ = boxes_of(scene)
        return np.array([self._of(key) for key in keys], np.float32).reshape(-1, len(self._none))

    def knows(self, encoded: bytes) -> bool:
        """Whether there is an answer about a crop, given by its encoded picture."""
        return key_of(encoded) in self._place

    def _of(self, key: int) -> NDArray[np.float32]:
        place = self._place.get(key)
        return self._none if place is None else self._vectors[place].astype(np.float32)


def with_means(
    answers: NDArray[np.float32], person_ids: NDArray[np.int64], *, share: float
) -> NDArray[np.float32]:
    """Answers with so much in them of the mean of all answers about the same person.

    A teacher's answers about one person differ with the view and the camera; their mean does not.

    Args:
        answers: [N, D], unit vectors or zeros.
        person_ids: [N]; who is UNLABELED keeps the answer, as do zeros.
        share: of the mean, in [0, 1].
    """
    labelled = answers.any(axis=1) & (person_ids != UNLABELED)
    people, given = person_ids[labelled], answers[labelled]
    means = np.zeros((int(people.max(initial=-1)) + 1, answers.shape[1]), np.float32)
    np.add.at(means, people, given)
    mixed = answers.copy()
    mixed[labelled] = _unit((1 - share) * given + share * _unit(means)[people])
    return mixed


def _unit(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    made: NDArray[np.float32] = (rows / np.maximum(lengths, 1e-6)).astype(np.float32)
    return made
