"""`python -m models.nn.export CHECKPOINT --out DIR`: network to model file, with a parity check."""

if __name__ == "__main__":
    from models.command import run

    run("models.nn.export")

import argparse
import pickle
import tempfile
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.command import command
from models.errors import ModelFileError
from models.image import read_image
from models.model_card import HEAD_GRAPH, SCENE_GRAPH, ModelCard, save_card
from models.nn.network import PersonSearchNet, build_network
from models.nn.parity import check_parity

OPSET = 18


class SceneGraph(nn.Module):
    """Picture → feature map, objectness and deltas, channels last."""

    def __init__(self, network: PersonSearchNet) -> None:
        super().__init__()
        self.backbone = network.backbone
        self.rpn_head = network.rpn.head

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Maps of pictures [N, 3, H, W]: [N, h, w, C], [N, h, w, A] and [N, h, w, A, 4]."""
        feature_map = self.backbone(image)
        objectness, deltas = (maps[0] for maps in self.rpn_head([feature_map]))
        deltas = deltas.permute(0, 2, 3, 1)
        return (
            feature_map.permute(0, 2, 3, 1),
            objectness.permute(0, 2, 3, 1),
            deltas.reshape(*deltas.shape[:3], -1, 4),
        )


class HeadGraph(nn.Module):
    """Pooled regions, channels last → deltas, the head's logits and unit embeddings."""

    def __init__(self, network: PersonSearchNet) -> None:
        super().__init__()
        self.roi_heads = network.roi_heads

    def forward(self, regions: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Of regions [R, h, w, C]: [R, 4], [R] (NAE+: [R, h', w']) and [R, D]."""
        deltas, logits, embeddings = self.roi_heads.describe(regions.permute(0, 3, 1, 2))
        return deltas, logits, functional.normalize(embeddings)


def export(network: PersonSearchNet, directory: Path, card: ModelCard | None = None) -> Path:
    """Write both graphs and the card into a directory; its path is the model file.

    Args:
        network: on the CPU; it is put into evaluation mode.
        card: instead of the network's own.
    """
    network.eval()
    card = card or network.card
    directory.mkdir(parents=True, exist_ok=True)
    stride = card.input.size_divisor
    picture = torch.zeros(1, 3, 8 * stride, 10 * stride)
    channels = SceneGraph(network)(picture)[0].shape[-1]
    regions = torch.rand(2, *card.roi_size, channels)
    _write(
        SceneGraph(network), picture, directory / SCENE_GRAPH, "image",
        {"feature_map": {1: "h", 2: "w"}, "objectness": {1: "h", 2: "w"},
         "deltas": {1: "h", 2: "w"}}, {2: "H", 3: "W"},
    )  # fmt: skip
    _write(
        HeadGraph(network), regions, directory / HEAD_GRAPH, "regions",
        {"deltas": {0: "R"}, "norm_logit": {0: "R"}, "embedding": {0: "R"}}, {0: "R"},
    )  # fmt: skip
    save_card(card, directory)
    return directory


def read_checkpoint(path: Path) -> dict[str, Any]:
    """What torch saved in a file, on the CPU; no code in it is run.

    Raises:
        ModelFileError: the file is missing, damaged, or would run code.
    """
    try:
        file = path.open("rb")
    except OSError as error:
        raise ModelFileError(f"cannot read {path}: {error.strerror}") from error
    try:
        with file:
            content = torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise ModelFileError(
            f"{path}: damaged, or more than tensors and plain values are in it"
        ) from error
    except Exception as error:  # torch raises many types for damaged files
        first = str(error).partition("\n")[0][:200]
        raise ModelFileError(f"{path}: not a checkpoint, or damaged: {first}") from error
    if not isinstance(content, dict):
        raise ModelFileError(f"{path}: expected a checkpoint, found a {type(content).__name__}")
    return content


def network_of(checkpoint: dict[str, Any]) -> PersonSearchNet:
    """The network in a checkpoint of ours, in evaluation mode."""
    network = build_network(**checkpoint["build"])
    network.load_state_dict(checkpoint["network"])
    network.eval()
    return network


@command
def main(arguments: list[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m models.nn.export", description=__doc__)
    parser.add_argument("checkpoint", type=Path, help="a checkpoint.pt of service.train")
    parser.add_argument("--out", type=Path, required=True, help="the model directory to write")
    parser.add_argument("--check", type=Path, nargs="*", default=[], help="scenes for the parity")
    options = parser.parse_args(arguments)
    content = read_checkpoint(options.checkpoint)
    try:
        network = network_of(content)
    except (KeyError, RuntimeError, TypeError, ValueError) as error:
        raise ModelFileError(f"{options.checkpoint}: not our checkpoint: {error}") from error
    with tempfile.TemporaryDirectory() as folder:
        parity = check_parity(
            network,
            export(network, Path(folder)),
            [read_image(path).pixels for path in options.check],
        )
    print(f"model file: {export(network, options.out)}  parity: {parity}")
    return 0


def _write(
    module: nn.Module,
    example: Tensor,
    path: Path,
    name: str,
    outputs: dict[str, dict[int, str]],
    dynamic: dict[int, str],
) -> None:
    with warnings.catch_warnings():
        # The older exporter is the one that handles both graphs at every size.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module.eval(),
            (example,),
            str(path),
            input_names=[name],
            output_names=list(outputs),
            dynamic_axes={name: dynamic, **outputs},
            opset_version=OPSET,
            dynamo=False,
        )
