"""Which people of a dataset are shown, and what an NAE+ looks at in them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from models.datasets.scene import SceneDataset
from models.detections import Detections

LEAST_HEIGHT = 60.0


class Attentive(Protocol):
    """The part of an NAE+ detector that is drawn."""

    def attention(
        self, image: NDArray[np.uint8], boxes: NDArray[np.floating]
    ) -> NDArray[np.float32]: ...


@dataclass(frozen=True)
class Sighting:
    """A detected person: crop [H, W, 3] uint8, attention [h, w] in [0, 1], detection score."""

    scene: str
    crop: NDArray[np.uint8]
    attention: NDArray[np.float32]
    score: float


def choose_people(detections: Sequence[Detections], count: int) -> list[tuple[int, int]]:
    """The people to show, chosen by rule: (scene, detection), in the scenes' order.

    Each round takes the best scored person not yet taken, of LEAST_HEIGHT pixels or more, of every
    scene that has one; of the round that gives too many, scenes are taken at even distances.
    """
    chosen: list[tuple[int, int]] = []
    tall = [
        np.flatnonzero(found.boxes[:, 3] - found.boxes[:, 1] >= LEAST_HEIGHT)
        for found in detections
    ]
    for turn in range(max((len(own) for own in tall), default=0)):
        offered = [(scene, int(own[turn])) for scene, own in enumerate(tall) if len(own) > turn]
        free = count - len(chosen)
        if len(offered) > free:
            even = np.linspace(0, len(offered) - 1, free).round().astype(int)
            offered = [offered[index] for index in even]
        chosen += offered
    return sorted(chosen)


def look_at(
    detector: Attentive,
    dataset: SceneDataset,
    detections: Sequence[Detections],
    chosen: Sequence[tuple[int, int]],
) -> list[Sighting]:
    """What the detector looks at in the chosen people."""
    sightings = []
    for scene, index in chosen:
        pixels = dataset.scenes[scene].read()
        box = detections[scene].boxes[index]
        attention = detector.attention(pixels, box[None])[0]
        x1, y1 = np.floor(box[:2]).astype(int)
        x2, y2 = np.ceil(box[2:]).astype(int)
        sightings.append(
            Sighting(
                dataset.scenes[scene].name,
                pixels[y1:y2, x1:x2],
                attention,
                float(detections[scene].scores[index]),
            )
        )
    return sightings
