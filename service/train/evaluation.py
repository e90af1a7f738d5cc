"""How good the network is while it trains, and the file that keeps what was measured."""

import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from models.datasets.scene import Scene, SceneDataset
from models.detections import Detections
from models.evaluate import evaluate
from models.nn.network import PersonSearchNet


class NetworkModel:
    """The network as what `models.evaluate` scores."""

    def __init__(self, network: PersonSearchNet) -> None:
        self._network = network

    def detect(self, images: Sequence[NDArray[np.uint8]]) -> list[Detections]:
        """People of each scene [H, W, 3]."""
        return [self._network.detect(image) for image in images]

    def embed(self, image: NDArray[np.uint8], boxes: NDArray[np.floating]) -> NDArray[np.float32]:
        """Unit embeddings [N, D] of given boxes [N, 4] in a scene."""
        embeddings: NDArray[np.float32] = self._network.embed(image, boxes)
        return embeddings


def evaluate_network(
    network: PersonSearchNet,
    dataset: SceneDataset,
    *,
    gt_boxes: bool = False,
    progress: Callable[[Iterable[Scene]], Iterable[Scene]] = iter,
) -> dict[str, Any]:
    """Detection and search on a dataset, leaving training as it was.

    Args:
        gt_boxes: search among the annotated boxes, detecting nothing.

    Returns:
        "detection" and "search" of `models.evaluate`.
    """
    network.eval()
    try:
        with torch.random.fork_rng():
            model = NetworkModel(network)
            return of_interest(evaluate(model, dataset, gt_boxes=gt_boxes, progress=progress))
    finally:
        network.train()


def of_interest(measured: dict[str, Any]) -> dict[str, Any]:
    """What of an evaluation is written down: what was measured, not on what."""
    return {part: measured[part] for part in ("detection", "search")}


def in_words(metrics: dict[str, Any]) -> str:
    """Metrics on one line, in percent; says what was not measured and why."""
    told = []
    for part, why_not in (("detection", "nobody to detect"), ("search", "no queries")):
        if metrics[part] is None:
            told.append(f"{part}: {why_not}")
        else:
            numbers = (f"{name} {100 * value:.1f}" for name, value in metrics[part].items())
            told.append(f"{part}: {', '.join(numbers)}")
    return "; ".join(told)


class MetricsFile:
    """metrics.jsonl of a run: one evaluation a line.

    Attributes:
        last: the steps after which the newest evaluation was made; None without any.
    """

    def __init__(self, path: Path, *, done: int) -> None:
        """Forget what was measured after a step, from which the run goes on."""
        self._path = path
        old = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        kept = [line for line in old if json.loads(line)["steps"] <= done]
        self.last: int | None = json.loads(kept[-1])["steps"] if kept else None
        path.write_text("".join(f"{line}\n" for line in kept), encoding="utf-8")

    def add(self, *, steps: int, epochs: int, of: str, on: str, metrics: dict[str, Any]) -> None:
        """Write an evaluation down.

        Args:
            of: "network" or "model file".
            on: the dataset.
        """
        line = {"steps": steps, "epochs": epochs, "of": of, "on": on, **metrics}
        self.last = steps
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line, ensure_ascii=False) + "\n")
