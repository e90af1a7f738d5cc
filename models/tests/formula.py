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
# With these the scores of the formula's network spread over (0, 1).
OVERRIDES = {RESCALER + "running_mean": 12.854, RESCALER + "running_var": 4.1225}
GAINS = {"rpn.head.bbox_pred.weight": 0.4, "roi_heads.box_predictor.bbox_pred.0.weight": 2.0}


def published_shapes() -> dict[str, tuple[int, ...]]:
    """The tensors of the published network."""
    content = json.loads((CONFORMANCE / "shapes.json").read_text())
    return {name: tuple(shape) for name, shape in content.items()}


def formula_array(name: str, shape: tuple[int, ...]) -> NDArray[Any]:
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
    if name in OVERRIDES:
        made = np.full(shape, OVERRIDES[name])
    return made.astype(np.float32)
