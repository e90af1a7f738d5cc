"""What a model file is: a card in JSON beside two ONNX graphs, in one directory."""

import dataclasses
import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from models.errors import ModelFileError
from models.preprocess import InputRule
from models.proposals import ProposalRule

CARD_NAME = "card.json"
SCENE_GRAPH = "scene.onnx"
HEAD_GRAPH = "head.onnx"
CARD_FORMAT = 1
PIXEL_HEADS = ("nae_plus", "nae_plus_res5")
"""The heads that score each pixel of a region."""


@dataclass(frozen=True)
class DetectionRule:
    """Which scored boxes become detections.

    Attributes:
        score_threshold: scores must be larger.
        nms_iou: boxes that overlap a better one by more are dropped.
        max_per_scene: at most so many, the best.
    """

    score_threshold: float = 0.5
    nms_iou: float = 0.4
    max_per_scene: int = 300


@dataclass(frozen=True)
class ModelCard:
    """All that is to be known about a model file.

    Attributes:
        name: what people call it.
        head: "nae", "nae_plus", "nae_plus_res5" or "oim".
        backbone: "resnet50" or "efficientnet_lite0".
        embedding_dim: D.
        roi_size: bins in height and width that RoIAlign makes.
        score_meaning: what a detection score says.
        training: data, licences, settings; free text and numbers by name.
        metrics: results by dataset, as `models.evaluate` writes them.
        sha256: of each graph, by file name.
    """

    name: str
    head: str
    backbone: str
    embedding_dim: int
    roi_size: tuple[int, int]
    input: InputRule
    proposals: ProposalRule
    detections: DetectionRule
    score_meaning: str
    training: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, Any] = field(default_factory=dict)
    sha256: dict[str, str] = field(default_factory=dict)

    @property
    def pixel_wise(self) -> bool:
        """Whether the head scores each pixel of a region (NAE+)."""
        return self.head in PIXEL_HEADS

    @property
    def fingerprint(self) -> str:
        """sha256 of all that decides the answers: graphs and rules, not names or metrics."""
        deciding = dataclasses.asdict(self)
        for told in ("name", "score_meaning", "training", "metrics"):
            del deciding[told]
        return hashlib.sha256(json.dumps(deciding, sort_keys=True).encode()).hexdigest()


def save_card(card: ModelCard, directory: Path) -> Path:
    """Write the card into a model directory, with the sha256 of the graphs that lie there."""
    sums = {name: file_sha256(directory / name) for name in (SCENE_GRAPH, HEAD_GRAPH)}
    content = {"format": CARD_FORMAT, **dataclasses.asdict(dataclasses.replace(card, sha256=sums))}
    path = directory / CARD_NAME
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    return path


def load_card(model: Path) -> ModelCard:
    """Read the card of a model directory (or the card's own path).

    Raises:
        ModelFileError: naming what is missing, unknown or of another format.
    """
    path = model if model.suffix == ".json" else model / CARD_NAME
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ModelFileError(
            f"no model at {model}: expected a directory with {CARD_NAME}, {SCENE_GRAPH} and "
            f"{HEAD_GRAPH} ({error.strerror})"
        ) from error
    except ValueError as error:
        raise ModelFileError(f"{path} is not JSON: {error}") from error
    if not isinstance(content, dict) or content.pop("format", None) != CARD_FORMAT:
        raise ModelFileError(f"{path}: expected a model card of format {CARD_FORMAT}")
    try:
        rules = {
            "input": _rule(InputRule, content.pop("input")),
            "proposals": _rule(ProposalRule, content.pop("proposals")),
            "detections": _rule(DetectionRule, content.pop("detections")),
        }
        content["roi_size"] = tuple(content["roi_size"])
        return ModelCard(**content, **rules)
    except (AttributeError, KeyError, TypeError) as error:
        raise ModelFileError(f"{path}: not a complete model card: {error}") from error


def verified_graph(card: ModelCard, directory: Path, name: str) -> bytes:
    """The bytes of a graph, checked against the card.

    Raises:
        ModelFileError: the file is missing or is not the one that the card describes.
    """
    path = directory / name
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ModelFileError(f"cannot read {path}: {error.strerror}") from error
    found = hashlib.sha256(content).hexdigest()
    if found != card.sha256.get(name):
        raise ModelFileError(
            f"{path}: sha256 is {found[:12]}…, the card says {str(card.sha256.get(name))[:12]}…"
        )
    return content


def file_sha256(path: Path) -> str:
    """sha256 of a file, hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _rule(kind: type[Any], content: dict[str, Any]) -> Any:
    return kind(**{k: tuple(v) if isinstance(v, list) else v for k, v in content.items()})
