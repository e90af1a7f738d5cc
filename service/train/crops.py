"""Crops of one person each, as a run shows them: alone, to tell people apart."""

import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from models.datasets.crops import Crop, list_crops
from models.datasets.scene import UNLABELED, SceneDataset
from models.errors import DatasetError, PersonSearchError
from models.preprocess import InputRule
from service.train.answers import TeachersAnswers, with_means
from service.train.data import Batch, TrainingScene

STORED = (192, 96)
"""Height and width that crops are read as; how wide they were is told beside."""
STEP = 32
"""Places are a multiple of it tall and wide, in pixels."""


class CropData:
    """All crops of a run, with one numbering of its people; the place of `TrainingData`."""

    def __init__(
        self,
        paths: Sequence[Path],
        *,
        rule: InputRule,
        scale_jitter: float = 1.0,
        answers: TeachersAnswers | None = None,
        mean_share: float = 0.0,
        live: bool = False,
    ) -> None:
        """List them; who has neither a number nor an answer is left out.

        Args:
            rule: its longer side is the height of a crop's place, its shorter one the width.
            scale_jitter: the places' size is multiplied by 1/x to x, alike in a batch.
            answers: a teacher's.
            mean_share: of what is learned about a labelled person, so much is the mean of the
                answers about all of their crops, whose cameras differ.
            live: a teacher is asked about everybody while the network learns.

        Raises:
            DatasetError: a source is not usable, nobody is labelled and there are no answers, or
                the answers are of none of the crops.
        """
        self.sources: list[SceneDataset] = []
        self.crops: list[Crop] = []
        self.people: list[str] = []
        numbers: list[NDArray[np.int64]] = []
        self.num_ids = 0
        for path in paths:
            crops = list_crops(path)
            persons = np.array([crop.person for crop in crops])
            known = np.unique(persons[persons != UNLABELED])
            places = np.searchsorted(known, persons) + self.num_ids
            numbers.append(np.where(persons == UNLABELED, UNLABELED, places))
            self.crops += crops
            self.num_ids += len(known)
            self.people.append(f"{path.stem}: {zlib.crc32(known.astype(np.int64).tobytes())}")
        self.person_ids = np.concatenate(numbers)
        if not self.num_ids and answers is None and not live:
            raise DatasetError(
                f"{', '.join(map(str, paths))}: nobody has a number in any crop's name; without a "
                "teacher's answers there is nothing to learn"
            )
        self.rule = rule
        self._scale_jitter = scale_jitter
        self._answers: NDArray[np.float32] | None = None
        taught = np.full(len(self.crops), live) | (self.person_ids != UNLABELED)
        if answers is not None:
            self._answers = np.array([answers.of_crop(crop.read()) for crop in self.crops])
            answered = self._answers.any(axis=1)
            if not answered.any():
                raise DatasetError(f"{answers.names}: no answers about any of the crops")
            self._answers = with_means(self._answers, self.person_ids, share=mean_share)
            taught |= answered
            self._answers = self._answers[taught]
        self.left_out = int((~taught).sum())
        self.crops = [crop for crop, counts in zip(self.crops, taught, strict=True) if counts]
        self.person_ids = self.person_ids[taught]

    def __len__(self) -> int:
        return len(self.crops)

    @property
    def aspect_ratios(self) -> NDArray[np.float64]:
        """All places have one shape [N]."""
        return np.ones(len(self.crops))

    def sample(self, index: int, rng: np.random.Generator, *, scale: float = 1) -> TrainingScene:
        """One crop as it is, and how large its place is; `Views` show it.

        Args:
            rng: not used: how a batch is shown is drawn for all its crops at once.
            scale: in [−1, 1]: how far the place's size is from the rule's, within the jitter.

        Returns:
            Pixels [3, STORED] uint8; as size the place's. Of the target "person_ids" [1],
            "aspects" [1], width by height, and with answers "answers" [1, D].

        Raises:
            DatasetError: naming a picture that cannot be read.
        """
        crop = self.crops[index]
        factor = self._scale_jitter**scale
        height, width = (
            max(STEP, STEP * round(side * factor / STEP))
            for side in (self.rule.max_size, self.rule.min_size)
        )
        pixels = crop.pixels()
        fitted = Image.fromarray(pixels).resize(STORED[::-1], Image.Resampling.BILINEAR)
        target = {
            "person_ids": torch.tensor([self.person_ids[index]]),
            "aspects": torch.tensor([pixels.shape[1] / pixels.shape[0]]),
        }
        if self._answers is not None:
            target["answers"] = torch.tensor(self._answers[index][None])
        shown = torch.from_numpy(np.array(fitted)).permute(2, 0, 1)
        return TrainingScene(crop.name, shown, (height, width), target)


def stacked(scenes: list[TrainingScene | PersonSearchError]) -> Batch | PersonSearchError:
    """A batch of crops [N, 3, STORED] with one target; or what is wrong with the first bad one."""
    good: list[TrainingScene] = []
    for scene in scenes:
        if isinstance(scene, PersonSearchError):
            return scene
        good.append(scene)
    names = [name for name in good[0].target if name != "seed"]
    target = {name: torch.cat([scene.target[name] for scene in good]) for name in names}
    target["seed"] = good[0].target["seed"]
    return Batch(
        [scene.name for scene in good],
        torch.stack([scene.pixels for scene in good]),
        [scene.size for scene in good],
        [target],
    )
