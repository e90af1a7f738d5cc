"""The weights that the published network had when it gave the numbers in `conformance/`."""

import json
import math
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

CONFORMANCE = Path(__file__).parent / "conformance"
SEED = "public"
RESCALER = "roi_heads.embedding_head.rescaler."
# Mean and variance of the norms, by the kind of network: with these its scores spread over (0, 1).
NORMS = {
    "nae": (12.854, 4.1225),
    "nae_plus": (8.962, 2.009),
    "nae_plus_res5": (8.896, 1.926),
}
GAINS = {"rpn.head.bbox_pred.weight": 0.4, "roi_heads.box_predictor.bbox_pred.0.weight": 2.0}


def published_shapes(head: str = "nae") -> dict[str, tuple[int, ...]]:
    """The tensors of the published network: in NAE+ the projectors' weights are 1×1 kernels."""
    content = json.loads((CONFORMANCE / "shapes.json").read_text())
    shapes = {name: tuple(shape) for name, shape in content.items()}
    if head == "nae":
        return shapes
    made = {}
    for name, shape in shapes.items():
        if ".projectors." not in name:
            made[name] = shape
        elif head == "nae_plus" or ".feat_res5." in name:
            widths = shape if head == "nae_plus" or not shape else (256, *shape[1:])
            made[name] = (*widths, 1, 1) if name.endswith(".0.weight") else widths
    return made


def formula_state(head: str = "nae") -> dict[str, NDArray[Any]]:
    """The whole published network."""
    shapes = published_shapes(head)
    return {name: formula_array(name, shape, head) for name, shape in shapes.items()}


def formula_array(name: str, shape: tuple[int, ...], head: str = "nae") -> NDArray[Any]:
    """The tensor of a name: float32, int64 for counters."""
    kind = name.rpartition(".")[2]
    if kind == "num_batches_tracked":
        return np.zeros(shape, np.int64)
    source = np.random.RandomState(zlib.crc32(f"{SEED}|{name}".encode()))
    normal = source.standard_normal(math.prod(shape)).reshape(shape)
    if kind in ("lut", "cq"):
        made = normal / np.sqrt((normal**2).sum(axis=1, keepdims=True))
    elif kind == "running_var":
        made = np.exp(0.1 * normal)
    elif kind != "weight":
        made = 0.05 * normal
    elif len(shape) == 1:
        made = (1 + 0.05 * normal) * (0.5 if name.endswith(".bn3.weight") else 1)
    else:
        centred = normal - normal.mean(axis=tuple(range(1, len(shape))), keepdims=True)
        made = centred * np.sqrt(2 / math.prod(shape[1:])) * GAINS.get(name, 1)
    if name in (RESCALER + "running_mean", RESCALER + "running_var"):
        made = np.full(shape, NORMS[head][kind == "running_var"])
    return made.astype(np.float32)
