"""Labelled scenes to batches of tensors; which scene is seen when depends on the seed alone."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from models.datasets.composite import Composer, read_crops
from models.datasets.scene import UNLABELED, Scene, SceneDataset
from models.datasets.scenes_json import read_scenes_json
from models.errors import DatasetError
from models.preprocess import InputRule, prepare


@dataclass
class TrainingScene:
    """One scene as the network takes it.

    Attributes:
        pixels: [3, H, W].
        size: height and width without padding.
        target: "boxes" [K, 4], "person_ids" [K] and "ignored" [J, 4].
    """

    pixels: Tensor
    size: tuple[int, int]
    target: dict[str, Tensor]


class TrainingData:
    """All scenes of a run, with one numbering of its people."""

    def __init__(
        self,
        directories: list[Path],
        crops: Path | None,
        *,
        composed: float,
        rule: InputRule,
        most_crops: int = 8,
    ) -> None:
        """Read the annotations.

        Raises:
            DatasetError: a dataset is not usable, or nobody is in it.
        """
        self.sources = [read_scenes_json(directory) for directory in directories]
        self.scenes: list[Scene] = []
        self._first_ids: list[int] = []
        self.num_ids = 0
        for source in self.sources:
            self.scenes += source.scenes
            self._first_ids += [self.num_ids] * len(source.scenes)
            self.num_ids += len(source.source_ids)
        if not any((~scene.ignore).any() for scene in self.scenes):
            raise DatasetError(
                f"{', '.join(map(str, directories))}: nobody is labelled in any scene"
            )
        self.rule = rule
        self._composed = composed
        self._composer: Composer | None = None
        if crops is not None:
            people = read_crops(crops)
            numbered = [
                _renumbered(scene, first)
                for scene, first in zip(self.scenes, self._first_ids, strict=True)
            ]
            width = round(rule.min_size * 11 / 9 / rule.size_divisor) * rule.size_divisor
            self._composer = Composer(
                numbered,
                people,
                first_id=self.num_ids,
                size=(width, rule.min_size),
                most_crops=most_crops,
            )
            self.num_ids += len(people.crops)

    def sample(self, index: int, rng: np.random.Generator) -> TrainingScene:
        """One scene, composed or as it is, flipped or not."""
        if self._composer is not None and rng.random() < self._composed:
            composed = self._composer.compose(rng)
            pixels, boxes = composed.pixels, composed.boxes
            person_ids, ignore = composed.person_ids, composed.ignore
        else:
            scene = _renumbered(self.scenes[index], self._first_ids[index])
            pixels, boxes = scene.read(), scene.boxes
            person_ids, ignore = scene.person_ids, scene.ignore
        if rng.random() < 0.5:
            pixels = np.ascontiguousarray(pixels[:, ::-1])
            boxes = boxes.copy()
            boxes[:, [0, 2]] = pixels.shape[1] - boxes[:, [2, 0]]
        prepared = prepare(pixels, self.rule)
        scaled = torch.from_numpy(prepared.to_network(boxes))
        counts, ids = torch.from_numpy(~ignore), torch.from_numpy(person_ids)
        target = {
            "boxes": scaled[counts],
            "person_ids": ids[counts],
            "ignored": scaled[~counts],
        }
        return TrainingScene(torch.from_numpy(prepared.pixels), prepared.size, target)


class EpochScenes(Dataset):
    """The scenes of one epoch from some step on, in an order that the seed decides."""

    def __init__(
        self, data: TrainingData, *, seed: int, epoch: int, count: int, start: int = 0
    ) -> None:
        self._data = data
        self._key = (seed, epoch)
        rounds = -(-count // len(data.scenes))
        rng = np.random.default_rng(self._key)
        order = np.concatenate([rng.permutation(len(data.scenes)) for _ in range(rounds)])
        self._order = order[:count]
        self._start = start

    def __len__(self) -> int:
        return len(self._order) - self._start

    def __getitem__(self, place: int) -> TrainingScene:
        place += self._start
        rng = np.random.default_rng((*self._key, place))
        return self._data.sample(int(self._order[place]), rng)


def batches(
    scenes: EpochScenes, *, batch_size: int, workers: int
) -> Iterator[tuple[Tensor, list[tuple[int, int]], list[dict[str, Tensor]]]]:
    """Batches padded to their largest scene; an incomplete last one is left out."""
    loader = DataLoader(
        scenes,
        batch_size=batch_size,
        num_workers=workers,
        collate_fn=collate,
        drop_last=True,
        multiprocessing_context="forkserver" if workers else None,
        prefetch_factor=4 if workers else None,
        # A loader draws a seed when it starts; from the global generator this would make a
        # resumed run differ.
        generator=torch.Generator(),
    )
    yield from loader


def collate(
    scenes: list[TrainingScene],
) -> tuple[Tensor, list[tuple[int, int]], list[dict[str, Tensor]]]:
    """Pixels [N, 3, H, W] with zero padding, sizes and targets."""
    height = max(scene.pixels.shape[1] for scene in scenes)
    width = max(scene.pixels.shape[2] for scene in scenes)
    images = torch.zeros(len(scenes), 3, height, width)
    for image, scene in zip(images, scenes, strict=True):
        image[:, : scene.pixels.shape[1], : scene.pixels.shape[2]] = scene.pixels
    return images, [scene.size for scene in scenes], [scene.target for scene in scenes]


def _renumbered(scene: Scene, first_id: int) -> Scene:
    """The same scene with the run's numbers for its people."""
    ids = np.where(scene.person_ids == UNLABELED, UNLABELED, scene.person_ids + first_id)
    return Scene(
        scene.name, scene.path, scene.width, scene.height, scene.boxes, ids, scene.ignore,
        scene.camera, scene.exhaustive,
    )  # fmt: skip


def describe(sources: list[SceneDataset]) -> list[dict[str, object]]:
    """What a model card says of the scenes that a network was trained on."""
    return [
        {
            "name": source.name,
            "scenes": len(source.scenes),
            "labelled people": len(source.source_ids),
            "licence": source.licence,
        }
        for source in sources
    ]
