"""Pictures of one person each as what a detector would have cut out of scenes, many to a picture.

The trunk sees whole scenes, in which there is more around a person: so the crops of a batch are
laid side by side into a few pictures, and each person's box is one that a detector might have
found: shifted, too large, cut or half hidden.
"""

import dataclasses
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
from service.train.augment import degraded
from service.train.data import Batch, TrainingScene

COLUMNS, ROWS = 8, 2
"""Of the pictures that crops are laid side by side in."""
STEP = 32
FILLED_BY_OTHERS = 0.6
HIDDEN, CUT, FAR = 0.2, 0.15, 0.15


class CropData:
    """All crops of a run, with one numbering of its people; the place of `TrainingData`."""

    def __init__(
        self,
        paths: Sequence[Path],
        *,
        rule: InputRule,
        augment: bool = False,
        scale_jitter: float = 1.0,
        answers: TeachersAnswers | None = None,
        mean_share: float = 0.0,
    ) -> None:
        """List them; who has neither a number nor an answer is left out.

        Args:
            rule: its longer side is the height of a crop's place, its shorter one the width.
            augment: show them in other light, blurred, noisy or compressed, partly hidden, in
                boxes as a detector gives them.
            scale_jitter: the places' size is multiplied by 1/x to x, alike in a batch.
            answers: a teacher's.
            mean_share: of what is learned about a labelled person, so much is the mean of the
                answers about all of their crops, whose cameras differ.

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
        if not self.num_ids and answers is None:
            raise DatasetError(
                f"{', '.join(map(str, paths))}: nobody has a number in any crop's name; without a "
                "teacher's answers there is nothing to learn"
            )
        self.rule = rule
        self._augment = augment
        self._scale_jitter = scale_jitter
        self._answers: NDArray[np.float32] | None = None
        if answers is None:
            taught = self.person_ids != UNLABELED
        else:
            self._answers = np.array([answers.of_crop(crop.read()) for crop in self.crops])
            answered = self._answers.any(axis=1)
            if not answered.any():
                raise DatasetError(f"{answers.names}: no answers about any of the crops")
            self._answers = with_means(self._answers, self.person_ids, share=mean_share)
            taught = answered | (self.person_ids != UNLABELED)
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
        """One crop in its place, flipped or not, without a seed for the network.

        Args:
            scale: in [−1, 1]: how far the place's size is from the rule's, within the jitter.

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
        if self._augment:
            other = self.crops[int(rng.integers(len(self.crops)))].pixels()
            shown, box = as_found(pixels, other, (height, width), rng)
        else:
            shown = np.array(Image.fromarray(pixels).resize((width, height)))
            box = np.array([0, 0, width, height], np.float32)
        if rng.random() < 0.5:
            shown = np.ascontiguousarray(shown[:, ::-1])
            box = np.array([width - box[2], box[1], width - box[0], box[3]], np.float32)
        levels = torch.tensor(shown).permute(2, 0, 1).float() / 255
        mean, std = (torch.tensor(row)[:, None, None] for row in (self.rule.mean, self.rule.std))
        target = {
            "boxes": torch.from_numpy(box[None]),
            "person_ids": torch.tensor([self.person_ids[index]]),
            "ignored": torch.zeros(0, 4),
        }
        if self._answers is not None:
            target["answers"] = torch.tensor(self._answers[index][None])
        return TrainingScene(crop.name, (levels - mean) / std, (height, width), target)


def as_found(
    pixels: NDArray[np.uint8],
    other: NDArray[np.uint8],
    size: tuple[int, int],
    rng: np.random.Generator,
) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """A crop of a person in a place of a given size, and the box that a detector might have found.

    Args:
        pixels: [H, W, 3], the crop.
        other: [H', W', 3], another one, which may be seen around or before the person.
        size: height and width of the place.

    Returns:
        The place [height, width, 3], and the box [4] in it.
    """
    height, width = size
    tall = height * float(rng.uniform(0.72, 1.0))
    wide = tall * pixels.shape[1] / pixels.shape[0] * float(np.exp(rng.uniform(-0.15, 0.15)))
    down, across = max(8, round(tall)), max(8, min(width, round(wide)))
    top, left = int(rng.integers(height - down + 1)), int(rng.integers(width - across + 1))
    person = Image.fromarray(pixels)
    if rng.random() < FAR:  # as a camera far away sees them
        small = float(rng.uniform(0.25, 0.7))
        person = person.resize((max(4, round(across * small)), max(8, round(down * small))))
    resample = Image.Resampling(
        int(rng.choice([Image.Resampling.BILINEAR, Image.Resampling.BICUBIC]))
    )
    shown = _surroundings(pixels, other, size, rng)
    shown.paste(person.resize((across, down), resample), (left, top))
    place = np.array(shown)
    if rng.random() < HIDDEN:
        _hide(place, (left, top, across, down), other, rng)
    box = np.array([left, top, left + across, top + down], np.float32)
    place = degraded(place, np.empty((0, 4), np.float32), rng, strong=True)
    sides = np.array([across, down, across, down], np.float32)
    box += rng.normal(0, 0.05, 4).clip(-0.12, 0.12).astype(np.float32) * sides
    if rng.random() < CUT:
        side = int(rng.choice([0, 1, 2, 3], p=[0.15, 0.15, 0.15, 0.55]))
        share = float(rng.uniform(0.08, 0.35)) * sides[side]
        box[side] += share if side < 2 else -share
    limits = np.array([width, height, width, height], np.float32)
    return place, np.clip(box, 0, limits).astype(np.float32)


def _surroundings(
    pixels: NDArray[np.uint8],
    other: NDArray[np.uint8],
    size: tuple[int, int],
    rng: np.random.Generator,
) -> Image.Image:
    """What is around a person in their place: part of another crop, or a plain colour of this."""
    height, width = size
    if rng.random() < FILLED_BY_OTHERS:
        tall, wide = other.shape[:2]
        share = float(rng.uniform(0.3, 1.0))
        top, left = (int(rng.integers(round(side * (1 - share)) + 1)) for side in (tall, wide))
        window = (left, top, left + max(2, int(wide * share)), top + max(2, int(tall * share)))
        return Image.fromarray(other).resize((width, height), Image.Resampling.BILINEAR, window)
    rim = pixels[int(rng.integers(len(pixels))), int(rng.choice([0, pixels.shape[1] - 1]))]
    return Image.new("RGB", (width, height), tuple(int(value) for value in rim))


def _hide(
    place: NDArray[np.uint8],
    person: tuple[int, int, int, int],
    other: NDArray[np.uint8],
    rng: np.random.Generator,
) -> None:
    """Put something before a person, from one side or in the middle: another crop, or a colour."""
    left, top, across, down = person
    if rng.random() < 0.5:
        wide, tall = rng.uniform(0.3, 1.0), rng.uniform(0.15, 0.5)
        x, y = (
            rng.uniform(0, 1 - wide),
            (1 - tall if rng.random() < 0.6 else rng.uniform(0, 1 - tall)),
        )
    else:
        wide, tall = rng.uniform(0.15, 0.5), rng.uniform(0.4, 1.0)
        x, y = (0 if rng.random() < 0.5 else 1 - wide), rng.uniform(0, 1 - tall)
    rows = slice(top + int(y * down), top + int(y * down) + max(1, int(tall * down)))
    columns = slice(left + int(x * across), left + int(x * across) + max(1, int(wide * across)))
    part = place[rows, columns]
    if rng.random() < 0.5:
        part[:] = rng.integers(0, 256, 3)
    else:
        fitted = Image.fromarray(other).resize((part.shape[1], part.shape[0]))
        part[:] = np.asarray(fitted)


def side_by_side(scenes: list[TrainingScene | PersonSearchError]) -> Batch | PersonSearchError:
    """A batch of crops laid side by side; or what is wrong with the first bad one."""
    good: list[TrainingScene] = []
    for scene in scenes:
        if isinstance(scene, PersonSearchError):
            return scene
        good.append(scene)
    _, height, width = good[0].pixels.shape
    each = COLUMNS * ROWS
    count = -(-len(good) // each)
    images = torch.zeros(count, 3, ROWS * height, COLUMNS * width)
    gathered: list[list[TrainingScene]] = [[] for _ in range(count)]
    for number, scene in enumerate(good):
        page, place = divmod(number, each)
        row, column = divmod(place, COLUMNS)
        top, left = row * height, column * width
        images[page, :, top : top + height, left : left + width] = scene.pixels
        shift = torch.tensor([left, top, left, top], dtype=torch.float32)
        target = {**scene.target, "boxes": scene.target["boxes"] + shift}
        gathered[page].append(dataclasses.replace(scene, target=target))
    targets = []
    for some in gathered:
        names = [name for name in some[0].target if name != "seed"]
        targets.append({name: torch.cat([s.target[name] for s in some]) for name in names})
    return Batch(
        [scene.name for scene in good],
        images,
        [(ROWS * height, COLUMNS * width)] * count,
        targets,
    )
