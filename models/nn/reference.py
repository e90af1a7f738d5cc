"""`python -m models.nn.reference CHECKPOINT --out DIR`: the authors' weights as a model file."""

if __name__ == "__main__":
    from models.command import run

    run("models.nn.reference")

import argparse
import dataclasses
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from models.command import command
from models.datasets.drawing import random_look
from models.datasets.synthetic import draw_scene, make_camera
from models.errors import ModelFileError
from models.model_card import file_sha256
from models.nn.export import export, read_checkpoint
from models.nn.network import PersonSearchNet, build_network
from models.nn.parity import check_parity

# Beginnings of their names and of ours; the longest that fits counts, None is not used by us.
NAMES: dict[str, str | None] = {
    "backbone.": "backbone.",
    "rpn.head.conv.": "rpn.head.conv.0.0.",
    "rpn.head.conv.0.0.": "rpn.head.conv.0.0.",  # as torchvision ≥ 0.13 writes it
    "rpn.head.": "rpn.head.",
    "roi_heads.box_head.": "roi_heads.box_head.",
    "roi_heads.box_predictor.bbox_pred.": "roi_heads.box_regressor.",
    "roi_heads.box_predictor.bbox_pred.weight": "roi_heads.box_regressor.0.weight",
    "roi_heads.box_predictor.bbox_pred.bias": "roi_heads.box_regressor.0.bias",
    "roi_heads.box_predictor.cls_score.": None,
    "roi_heads.embedding_head.": "roi_heads.embedding_head.",
    "roi_heads.reid_loss.lut": "roi_heads.reid_loss.lookup_table",
    "roi_heads.reid_loss.cq_omega": None,
    "roi_heads.reid_loss.cq": "roi_heads.reid_loss.circular_queue",
}
REGRESSOR = "roi_heads.box_regressor."
MEMORY = ("roi_heads.reid_loss.lookup_table", "roi_heads.reid_loss.circular_queue")
# Their regressor has four outputs for "nobody", which nothing uses, then four for a person.
PERSON_ROWS = slice(4, 8)
PROJECTOR = "roi_heads.embedding_head.projectors.feat_res{}.0.weight"
TITLES = {"nae": "NAE", "nae_plus": "NAE+", "nae_plus_res5": "NAE+"}
EMBEDDING_DIM = 256
NAMED_PROBLEMS = 3
LEAST_SIDE = 64


def head_of(state: Mapping[str, Tensor]) -> str:
    """Which head a published state dict belongs to: NAE+'s projectors are 1×1 convolutions."""
    projector = state.get(PROJECTOR.format(5))
    if not isinstance(projector, Tensor) or projector.ndim != 4:
        return "nae"
    return "nae_plus" if PROJECTOR.format(4) in state else "nae_plus_res5"


def convert_state_dict(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The published network's state dict, with our names and shapes.

    Args:
        state: as NAE4PS saves it, from any version of torchvision; the identity loss's memory may
            be left out, and the box regressor may have been trained without batch norm
            (`--rm_rcnn_bbox_bn`).

    Returns:
        All that `build_network(head_of(state), "resnet50", num_ids=…, queue_size=…)` holds, where
        the two sizes are the lengths of the memory's tables, 0 without them.

    Raises:
        ModelFileError: naming what is missing, not known, of another shape or not finite.
    """
    expected = _expected_shapes(head_of(state))
    found: dict[str, Tensor] = {}
    unknown, misshapen, infinite = [], [], []
    for name, value in state.items():
        known = [beginning for beginning in NAMES if str(name).startswith(beginning)]
        beginning = max(known, key=len, default="")
        renamed = NAMES.get(beginning, "unknown.")
        if renamed is None:
            continue
        ours = renamed + str(name).removeprefix(beginning)
        if ours not in expected or ours in found or not isinstance(value, Tensor):
            unknown.append(str(name))
            continue
        shape = (*value.shape[:1], EMBEDDING_DIM) if ours in MEMORY else expected[ours]
        if tuple(value.shape) != shape:
            misshapen.append(f"{name} {list(value.shape)} instead of {list(shape)}")
        elif not torch.isfinite(value).all():
            infinite.append(str(name))
        found[ours] = value
    found = _left_out("roi_heads.box_predictor.bbox_pred.weight" in state) | found
    missing = [_their_name(name) for name in expected if name not in found]
    told = [
        _told("missing", missing),
        _told("not known", unknown),
        _told("of another shape", misshapen),
        _told("not finite", infinite),
    ]
    if any(told):
        title = TITLES[head_of(state)]
        raise ModelFileError(f"not the published {title} network: " + "; ".join(filter(None, told)))
    return {
        name: value[PERSON_ROWS] if name.startswith(REGRESSOR) and value.ndim else value
        for name, value in found.items()
    }


def load_reference(
    path: Path,
    *,
    name: str | None = None,
    min_size: int | None = None,
    max_size: int | None = None,
) -> PersonSearchNet:
    """The published network with the weights of one of its checkpoints, in evaluation mode.

    Args:
        path: a `checkpoint.pth` of NAE4PS, in torch's present or its older format.
        name, min_size, max_size: as for `build_network`.

    Raises:
        ModelFileError: the file is missing, damaged, runs code, or holds another network.
    """
    content = read_checkpoint(path)
    state = content.get("model")
    if not isinstance(state, Mapping):
        held = ", ".join(sorted(map(str, content))[:6]) or "nothing"
        raise ModelFileError(f"{path}: expected a checkpoint with 'model' in it, found {held}")
    try:
        weights = convert_state_dict(state)
    except ModelFileError as error:
        raise ModelFileError(f"{path}: {error}") from error
    lookup_table, circular_queue = (weights[key] for key in MEMORY)
    head = head_of(state)
    network = build_network(
        head,
        name=name,
        num_ids=len(lookup_table),
        queue_size=len(circular_queue),
        min_size=min_size,
        max_size=max_size,
    )
    network.load_state_dict(weights)
    training = {
        "source": f"published {TITLES[head]} weights",
        "checkpoint": path.name,
        "checkpoint_sha256": file_sha256(path),
        "epochs": content.get("epoch"),
    }
    network.card = dataclasses.replace(network.card, training=training)
    network.eval()
    return network


def drawn_scene() -> NDArray[np.uint8]:
    """A street with eight people [480, 640, 3], always the same: what parity is checked on."""
    rng = np.random.default_rng(0)
    people = [(person, random_look(rng)) for person in range(8)]
    return np.asarray(draw_scene(make_camera(rng, (640, 480)), people, rng)[0])


@command
def main(arguments: list[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m models.nn.reference", description=__doc__)
    parser.add_argument("checkpoint", type=Path, help="a checkpoint.pth of NAE4PS")
    parser.add_argument("--out", type=Path, required=True, help="the model directory to write")
    parser.add_argument("--name", help="of the model file")
    parser.add_argument("--min-size", type=_side, help="shorter side in pixels (default: 900)")
    parser.add_argument("--max-size", type=_side, help="longer side at most (default: 1500)")
    options = parser.parse_args(arguments)
    network = load_reference(
        options.checkpoint,
        name=options.name,
        min_size=options.min_size,
        max_size=options.max_size,
    )
    with tempfile.TemporaryDirectory() as folder:
        parity = check_parity(network, export(network, Path(folder)), [drawn_scene()])
        shutil.copytree(folder, options.out, dirs_exist_ok=True)
    print(f"model file: {options.out}  parity: {parity}")
    return 0


def _side(text: str) -> int:
    side = int(text)
    if side < LEAST_SIDE:
        raise argparse.ArgumentTypeError(f"expected at least {LEAST_SIDE} pixels, got {side}")
    return side


def _expected_shapes(head: str) -> dict[str, tuple[int, ...]]:
    """The shapes of their tensors under our names."""
    with torch.device("meta"):
        ours = build_network(head, "resnet50", embedding_dim=EMBEDDING_DIM).state_dict()
    shapes = {name: tuple(value.shape) for name, value in ours.items()}
    for name, shape in shapes.items():
        if name.startswith(REGRESSOR) and shape:
            shapes[name] = (2 * shape[0], *shape[1:])
    return shapes


def _left_out(without_norm: bool) -> dict[str, Tensor]:
    """Tensors that a checkpoint may lack, with values that have no effect."""
    added = {table: torch.zeros(0, EMBEDDING_DIM) for table in MEMORY}
    added["roi_heads.reid_loss.queue_head"] = torch.zeros((), dtype=torch.long)
    if without_norm:
        identity = nn.BatchNorm1d(8)
        identity.running_var.fill_(1 - identity.eps)
        added |= {f"{REGRESSOR}1.{name}": value for name, value in identity.state_dict().items()}
    return added


def _their_name(ours: str) -> str:
    """What the published code calls one of our tensors."""
    for theirs, renamed in NAMES.items():
        if renamed is not None and ours.startswith(renamed):
            return theirs + ours.removeprefix(renamed)
    return ours


def _told(kind: str, names: list[str]) -> str:
    """How many, and the first few."""
    if not names:
        return ""
    more = ", …" if len(names) > NAMED_PROBLEMS else ""
    return f"{len(names)} {kind}: {', '.join(names[:NAMED_PROBLEMS])}{more}"
