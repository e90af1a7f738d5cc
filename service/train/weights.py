"""Weights to start from: a checkpoint of ours, a published one, or ImageNet's ResNet-50."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from models.errors import ModelFileError
from models.nn.export import read_checkpoint
from models.nn.reference import load_reference

HEAD, MEMORY = "roi_heads.embedding_head.", "roi_heads.reid_loss."
BACKBONE, BOX_HEAD = "backbone.", "roi_heads.box_head."
NAMED_PROBLEMS = 3


@dataclass(frozen=True)
class Source:
    """A kind of file that weights come from.

    Attributes:
        key: in its content, by which it is told from the others.
        weights: of its path and content, tensors by our names.
        fills: beginnings of the names that it must hold.
    """

    key: str
    weights: Callable[[Path, dict[str, Any]], Mapping[str, Tensor]]
    fills: tuple[str, ...]


@torch.no_grad()
def load_weights(network: nn.Module, path: Path, *, people: list[str]) -> list[str]:
    """Fill a network with the weights of a file.

    NAE's linear projectors fill NAE+'s 1×1 convolutions; a head of other layers starts fresh. So
    does the identity loss's memory, unless it is of the same people.

    Args:
        people: whom this training numbers in which order, as `TrainingData.people` says it.

    Returns:
        Names of the tensors that start fresh.

    Raises:
        ModelFileError: the file is missing or damaged, or does not fit the network.
    """
    content = read_checkpoint(path)
    source = next((source for source in SOURCES if source.key in content), None)
    if source is None:
        held = ", ".join(sorted(map(str, content))[:6]) or "nothing"
        raise ModelFileError(
            f"{path}: expected a checkpoint of ours ('network' in it), a published one ('model') "
            f"or torchvision's resnet50 ('layer4.2.conv3.weight'), found {held}"
        )
    weights = source.weights(path, content)
    state = network.state_dict()
    # Published checkpoints do not say whom they numbered.
    numbered = content.get("people", None if "config" in content else people)
    remembered = numbered == people and all(
        name in weights and weights[name].shape == tensor.shape
        for name, tensor in state.items()
        if name.startswith(MEMORY)
    )
    fresh, wrong = [], []
    for name, tensor in state.items():
        given = weights.get(name)
        if name.startswith(MEMORY) and not remembered:
            fresh.append(name)
        elif given is not None and _as_linear(given.shape) == _as_linear(tensor.shape):
            tensor.copy_(given.reshape(tensor.shape))
        elif name.startswith(source.fills):
            found = "missing" if given is None else f"of shape {list(given.shape)}"
            wrong.append(f"{name} {list(tensor.shape)} is {found}")
        else:
            fresh.append(name)
    if wrong:
        more = f", and {len(wrong) - NAMED_PROBLEMS} more" if len(wrong) > NAMED_PROBLEMS else ""
        raise ModelFileError(
            f"{path}: does not fit this network: {'; '.join(wrong[:NAMED_PROBLEMS])}{more}"
        )
    return fresh


def _imagenet(path: Path, content: dict[str, Any]) -> dict[str, Tensor]:
    """torchvision's classifier by our names; its last layer has a name that is not used."""
    return {
        (BOX_HEAD if name.startswith("layer4.") else BACKBONE) + name: tensor
        for name, tensor in content.items()
    }


DETECTOR = (BACKBONE, BOX_HEAD, "rpn.", "roi_heads.box_regressor.")
SOURCES = (
    Source("network", lambda path, content: content["network"], DETECTOR),
    Source("model", lambda path, _: load_reference(path).state_dict(), DETECTOR),
    Source("layer4.2.conv3.weight", _imagenet, (BACKBONE, BOX_HEAD)),
)


def _as_linear(shape: torch.Size) -> tuple[int, ...]:
    """A shape without the sides of a 1×1 kernel."""
    return tuple(shape[:2]) if len(shape) == 4 and shape[2:] == (1, 1) else tuple(shape)
