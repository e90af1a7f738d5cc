"""Labelled scenes to batches of tensors; which scene is seen when depends on the seed alone."""

import dataclasses
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from models.command import without_ctrl_c
from models.datasets.read import read_dataset
from models.datasets.scene import UNLABELED, Scene, SceneDataset
from models.errors import DatasetError, PersonSearchError
from models.preprocess import InputRule, prepare
from service.train.answers import TeachersAnswers, with_means
from service.train.augment import degraded

# Scenes whose aspect ratios differ by less are of like shape.
LIKE_SHAPE = 2**0.25


@dataclass
class TrainingScene:
    """One scene as the network takes it.

    Attributes:
        name: the scene's, for messages.
        pixels: [3, H, W].
        size: height and width without padding.
        target: "boxes" [K, 4], "person_ids" [K], "ignored" [J, 4], and "seed", an int that decides
            which anchors and regions the network draws; with a teacher "answers" [K, D].
    """

    name: str
    pixels: Tensor
    size: tuple[int, int]
    target: dict[str, Any]


@dataclass
class Batch:
    """What a process computes of one step.

    Attributes:
        names: of the scenes.
        images: [N, 3, H, W] with zero padding.
        sizes: height and width of each without padding.
        targets: as of TrainingScene.
    """

    names: list[str]
    images: Tensor
    sizes: list[tuple[int, int]]
    targets: list[dict[str, Any]]

    def pin_memory(self) -> Self:
        """Let the pixels lie where a GPU can fetch them beside other work."""
        self.images = self.images.pin_memory()
        return self


class Draw(NamedTuple):
    """One scene at one place of one epoch; epoch and place decide how it is shown.

    `scale` is the batch's, in [−1, 1]: see `TrainingData.sample`.
    """

    epoch: int
    place: int
    scene: int
    scale: float = 0.0


class TrainingData:
    """All scenes of a run, with one numbering of its people."""

    def __init__(
        self,
        paths: list[Path],
        *,
        rule: InputRule,
        augment: bool = False,
        scale_jitter: float = 1.0,
        answers: TeachersAnswers | None = None,
        mean_share: float = 0.0,
    ) -> None:
        """Read the annotations.

        Args:
            answers: a teacher's, which targets then have as "answers".
            mean_share: of what is learned about a labelled person, so much is the mean of the
                answers about them in all scenes.

        Raises:
            DatasetError: a dataset is not usable, or nobody is in it.
        """
        self.sources = [read_dataset(path, split="train") for path in paths]
        self.scenes: list[Scene] = []
        self._first_ids: list[int] = []
        self.num_ids = 0
        for source in self.sources:
            self.scenes += source.scenes
            self._first_ids += [self.num_ids] * len(source.scenes)
            self.num_ids += len(source.source_ids)
        if not any((~scene.ignore).any() for scene in self.scenes):
            raise DatasetError(f"{', '.join(map(str, paths))}: nobody is labelled in any scene")
        self.rule = rule
        self._augment = augment
        self._scale_jitter = scale_jitter
        self._answers: list[NDArray[np.float32]] | None = None
        if answers is not None:
            self._answers = self._of_scenes(answers, mean_share, paths)

    def __len__(self) -> int:
        return len(self.scenes)

    def _of_scenes(
        self, answers: TeachersAnswers, mean_share: float, paths: list[Path]
    ) -> list[NDArray[np.float32]]:
        """The answers about each scene's people who count.

        Raises:
            DatasetError: there are none at all.
        """
        scenes = [
            _renumbered(scene, first)
            for scene, first in zip(self.scenes, self._first_ids, strict=True)
        ]
        rows = [answers.of_scene(scene) for scene in scenes]
        people = np.concatenate([scene.person_ids[~scene.ignore] for scene in scenes])
        joint = np.concatenate(rows)
        if not joint.any():
            raise DatasetError(
                f"{answers.names}: no answers about anybody in {', '.join(map(str, paths))}"
            )
        joint = with_means(joint, people, share=mean_share)
        return np.split(joint, np.cumsum([len(part) for part in rows])[:-1])

    @property
    def aspect_ratios(self) -> NDArray[np.float64]:
        """Width by height of each scene [S]."""
        return np.array([scene.width / scene.height for scene in self.scenes])

    @property
    def people(self) -> list[str]:
        """Whom the run's numbers stand for: of each dataset its name and its own numbers."""
        return [
            f"{source.name}: {zlib.crc32(np.array(source.source_ids, np.int64).tobytes())}"
            for source in self.sources
        ]

    def sample(self, index: int, rng: np.random.Generator, *, scale: float = 1) -> TrainingScene:
        """One scene, flipped or not, degraded where that is asked for; without a seed for the
        network.

        Args:
            scale: in [−1, 1]: how far the input's size is from the rule's, within the jitter.

        Raises:
            DatasetError: naming a picture that cannot be read.
        """
        scene = _renumbered(self.scenes[index], self._first_ids[index])
        pixels, boxes, rule = scene.read(), scene.boxes, self.rule
        if self._augment:
            pixels = degraded(pixels, boxes, rng)
        if self._scale_jitter > 1:
            factor = self._scale_jitter**scale
            sides = round(rule.min_size * factor), round(rule.max_size * factor)
            rule = dataclasses.replace(rule, min_size=sides[0], max_size=sides[1])
        if rng.random() < 0.5:
            pixels = np.ascontiguousarray(pixels[:, ::-1])
            boxes = boxes.copy()
            boxes[:, [0, 2]] = pixels.shape[1] - boxes[:, [2, 0]]
        prepared = prepare(pixels, rule)
        scaled = torch.from_numpy(prepared.to_network(boxes))
        counts, ids = torch.from_numpy(~scene.ignore), torch.from_numpy(scene.person_ids)
        target = {
            "boxes": scaled[counts],
            "person_ids": ids[counts],
            "ignored": scaled[~counts],
        }
        if self._answers is not None:
            target["answers"] = torch.from_numpy(self._answers[index])
        return TrainingScene(scene.name, torch.from_numpy(prepared.pixels), prepared.size, target)


class Samples(Protocol):
    """What a run shows: `TrainingData`, or crops alone."""

    def sample(
        self, index: int, rng: np.random.Generator, *, scale: float = 1
    ) -> TrainingScene: ...


class RunOrder(Sampler[list[Draw]]):
    """Which scenes each remaining step of a run shows; the seed alone decides.

    A process takes its slice of each batch, so that the order is that of one process with the
    joint batch.
    """

    def __init__(
        self,
        scenes: int,
        *,
        seed: int,
        epochs: int,
        scenes_per_epoch: int,
        batch_size: int,
        part: slice = slice(None),
        start: int = 0,
        aspect_ratios: NDArray[np.float64] | None = None,
    ) -> None:
        """Say what the run is.

        Args:
            scenes: how many there are.
            seed: of the run.
            epochs: of the run.
            scenes_per_epoch: the last incomplete batch of them is left out.
            batch_size: of the joint batch.
            part: of each batch, what this process takes.
            start: steps that are done.
            aspect_ratios: [scenes]; given, batches are made of scenes of like shape.
        """
        self.steps_per_epoch = scenes_per_epoch // batch_size
        self.steps = epochs * self.steps_per_epoch
        self._scenes = scenes
        self._seed = seed
        self._batch_size = batch_size
        self._part = part
        self._start = start
        self._shapes = None
        if aspect_ratios is not None:
            self._shapes = np.round(np.log(aspect_ratios) / np.log(LIKE_SHAPE))

    def __len__(self) -> int:
        return self.steps - self._start

    def __iter__(self) -> Iterator[list[Draw]]:
        epoch, order = -1, np.empty((0, 0), np.int64)
        for done in range(self._start, self.steps):
            if epoch != done // self.steps_per_epoch:
                epoch = done // self.steps_per_epoch
                order = self.epoch(epoch)
            step = done % self.steps_per_epoch
            first = step * self._batch_size
            scale = float(np.random.default_rng((self._seed, epoch, step, 1)).uniform(-1, 1))
            batch = [Draw(epoch, first + i, int(s), scale) for i, s in enumerate(order[step])]
            yield batch[self._part]

    def epoch(self, number: int) -> NDArray[np.int64]:
        """Indices of the scenes of an epoch's batches [steps, batch size]."""
        count = self.steps_per_epoch * self._batch_size
        rng = np.random.default_rng((self._seed, number))
        rounds = -(-count // self._scenes)
        order = np.concatenate([rng.permutation(self._scenes) for _ in range(rounds)])[:count]
        if self._shapes is None:
            return order.reshape(-1, self._batch_size)
        # What is left out was drawn before; the order among scenes of like shape stays random.
        alike = order[np.argsort(self._shapes[order], kind="stable")]
        return rng.permutation(alike.reshape(-1, self._batch_size))


class RunScenes(Dataset[TrainingScene | PersonSearchError]):
    """Scenes by where they stand in a run: each place shows its scene in its own random way."""

    def __init__(self, data: Samples, *, seed: int) -> None:
        self._data = data
        self._seed = seed

    def __getitem__(self, draw: Draw) -> TrainingScene | PersonSearchError:
        """A scene; or what is wrong with it, as the value: raised here, an error of a helper
        process would reach the training as the text of a traceback.
        """
        key = (self._seed, draw.epoch, draw.place)
        try:
            scene = self._data.sample(draw.scene, np.random.default_rng(key), scale=draw.scale)
        except PersonSearchError as error:
            return error
        drawn = np.random.SeedSequence(key, spawn_key=(1,)).generate_state(1)
        target = {**scene.target, "seed": int(drawn[0] >> 1)}
        return dataclasses.replace(scene, target=target)


def batches(
    scenes: RunScenes,
    order: RunOrder,
    *,
    workers: int,
    pinned: bool,
    collated: Callable[[list[TrainingScene | PersonSearchError]], Batch | PersonSearchError]
    | None = None,
) -> Iterator[Batch]:
    """The batches of the rest of a run, prepared ahead by helper processes that last as long.

    Args:
        collated: makes a batch of its scenes; None is `collate`.

    Raises:
        DatasetError: naming a picture that cannot be read.
        PersonSearchError: a helper process died.
    """
    loader = DataLoader(
        scenes,
        batch_sampler=order,
        num_workers=workers,
        collate_fn=collated or collate,
        multiprocessing_context="forkserver" if workers else None,
        prefetch_factor=4 if workers else None,
        pin_memory=pinned,
        # A loader draws a seed when it starts; from the global generator this would make a
        # resumed run differ.
        generator=torch.Generator(),
    )
    try:
        with without_ctrl_c():
            iterator = iter(loader)
        for batch in iterator:
            if isinstance(batch, PersonSearchError):
                raise batch
            yield batch
    except RuntimeError as error:
        if "DataLoader worker (pid" not in str(error):
            raise
        first = str(error).partition("\n")[0]
        raise PersonSearchError(
            f"a process that prepares scenes died: {first} Too little memory, or too little "
            "shared memory (/dev/shm), is the usual cause; --workers 0 needs neither."
        ) from error


def collate(scenes: list[TrainingScene | PersonSearchError]) -> Batch | PersonSearchError:
    """A batch padded to its largest scene; or what is wrong with the first bad scene."""
    good: list[TrainingScene] = []
    for scene in scenes:
        if isinstance(scene, PersonSearchError):
            return scene
        good.append(scene)
    height = max(scene.pixels.shape[1] for scene in good)
    width = max(scene.pixels.shape[2] for scene in good)
    images = torch.zeros(len(good), 3, height, width)
    for image, scene in zip(images, good, strict=True):
        image[:, : scene.pixels.shape[1], : scene.pixels.shape[2]] = scene.pixels
    return Batch(
        [scene.name for scene in good],
        images,
        [scene.size for scene in good],
        [scene.target for scene in good],
    )


def _renumbered(scene: Scene, first_id: int) -> Scene:
    """The same scene with the run's numbers for its people."""
    ids = np.where(scene.person_ids == UNLABELED, UNLABELED, scene.person_ids + first_id)
    return dataclasses.replace(scene, person_ids=ids)


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
