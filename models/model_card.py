"""What a model file is: a card in JSON beside two ONNX graphs, in one directory."""

import dataclasses
import hashlib
import json
import math
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

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
class MatchRule:
    """The similarity above which two detections are a likely match, and how often that is wrong.

    Measured on annotated boxes, by models.evaluation.thresholds.

    Attributes:
        similarity: cosine similarity in [−1, 1]; that of a likely match is larger.
        false_match_rate: what is promised: at most so large a share of the pairs of different
            people is called a likely match.
        measured_rate: the share that was.
        interval: low and high, the 95 % interval of that share had other people been measured.
        missed_match_rate: the share of the pairs of one person that is not called a likely match.
        people: how many people were measured.
        pairs: how many pairs of different people.
        measured_on: name of the dataset.

    Raises:
        ValueError: a number is out of its range, or the measured rate outside its interval.
    """

    similarity: float
    false_match_rate: float
    measured_rate: float
    interval: tuple[float, float]
    missed_match_rate: float
    people: int
    pairs: int
    measured_on: str

    def __post_init__(self) -> None:
        low, high = self.interval
        rates = self.false_match_rate, self.measured_rate, low, high, self.missed_match_rate
        if not all(_is_number(rate) and 0 <= rate <= 1 for rate in rates):
            raise ValueError(f"expected rates in [0, 1], got {', '.join(map(repr, rates))}")
        if not low <= self.measured_rate <= high:
            raise ValueError(f"expected a rate within [{low}, {high}], got {self.measured_rate}")
        if not (_is_number(self.similarity) and -1 <= self.similarity <= 1):
            raise ValueError(f"expected a similarity in [-1, 1], got {self.similarity!r}")
        for count in (self.people, self.pairs):
            if type(count) is not int or count < 0:
                raise ValueError(f"expected counts of people and pairs, got {count!r}")
        if not isinstance(self.measured_on, str):
            raise ValueError(f"expected the name of a dataset, got {self.measured_on!r}")


@dataclass(frozen=True)
class AlikeRates:
    """How many of different people look so alike: the smallest similarity of the rarest pairs.

    Measured on annotated boxes, by models.evaluation.thresholds.

    Attributes:
        shares: of the pairs of different people, falling, each in (0, 1).
        similarities: cosine similarities in [−1, 1], rising: at most the share is more alike.
        people: how many people were measured.
        pairs: how many pairs of different people.
        across_cameras: whether only boxes of different cameras were compared.
        measured_on: name of the dataset.

    Raises:
        ValueError: a number is out of its range or its order.
    """

    shares: tuple[float, ...]
    similarities: tuple[float, ...]
    people: int
    pairs: int
    across_cameras: bool
    measured_on: str

    def __post_init__(self) -> None:
        if len(self.shares) != len(self.similarities) or not self.shares:
            raise ValueError(
                f"expected a similarity for each share, got {len(self.similarities)} for "
                f"{len(self.shares)}"
            )
        if not all(_is_number(share) and 0 < share < 1 for share in self.shares) or any(
            before <= after for before, after in pairwise(self.shares)
        ):
            raise ValueError(f"expected falling shares in (0, 1), got {self.shares}")
        if not all(_is_number(one) and -1 <= one <= 1 for one in self.similarities) or any(
            before > after for before, after in pairwise(self.similarities)
        ):
            raise ValueError(f"expected rising similarities in [-1, 1], got {self.similarities}")
        for count in (self.people, self.pairs):
            if type(count) is not int or count < 0:
                raise ValueError(f"expected counts of people and pairs, got {count!r}")

    def share(self, similarity: float) -> float:
        """The share of the pairs of different people that are more alike than this.

        Between two rows its logarithm falls evenly. Below the first row, where nothing was
        measured, it is 1; above the last one it is the last row's, which nothing is known to be
        rarer than.
        """
        if similarity < self.similarities[0]:
            return 1.0
        logarithms = np.interp(similarity, self.similarities, np.log(self.shares))
        return float(np.exp(logarithms))


@dataclass(frozen=True)
class ModelCard:
    """Everything there is to know about a model file.

    Attributes:
        name: what people call it.
        head: "nae", "nae_parts", "nae_plus", "nae_plus_res5" or "oim".
        backbone: "resnet50" or "efficientnet_lite0".
        embedding_dim: D.
        roi_size: bins in height and width that RoIAlign makes.
        score_meaning: what a detection score says.
        training: data, licences, settings; free text and numbers by name.
        metrics: results by dataset, as `models.evaluate` writes them.
        sha256: of each graph, by file name.
        matching: when two detections are a likely match; None where nobody measured it.
        alike: how many of different people look so alike; None likewise.
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
    matching: MatchRule | None = None
    alike: AlikeRates | None = None

    @property
    def pixel_wise(self) -> bool:
        """Whether the head scores each pixel of a region (NAE+)."""
        return self.head in PIXEL_HEADS

    @property
    def terms(self) -> str:
        """What the model may be used for, as its training data's licences say."""
        return str(self.training.get("licence", "not stated"))

    @property
    def fingerprint(self) -> str:
        """sha256 of all that decides the answers: graphs and rules, not names or metrics."""
        deciding = dataclasses.asdict(self)
        for told in ("name", "score_meaning", "training", "metrics", "matching", "alike"):
            del deciding[told]
        return hashlib.sha256(json.dumps(deciding, sort_keys=True).encode()).hexdigest()


def save_card(card: ModelCard, directory: Path) -> Path:
    """Write the card into a model directory, with the sha256 of the graphs that lie there."""
    sums = {name: file_sha256(directory / name) for name in (SCENE_GRAPH, HEAD_GRAPH)}
    content = {"format": CARD_FORMAT, **dataclasses.asdict(dataclasses.replace(card, sha256=sums))}
    for name in ("matching", "alike"):
        if content[name] is None:
            del content[name]  # older readers refuse an entry that they do not know
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
        for name, kind in (("matching", MatchRule), ("alike", AlikeRates)):
            measured = content.pop(name, None)
            if measured is not None:
                rules[name] = _rule(kind, measured)
        content["roi_size"] = tuple(content["roi_size"])
        return ModelCard(**content, **rules)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
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


def _is_number(value: object) -> bool:
    return type(value) in (int, float) and math.isfinite(value)  # type: ignore[arg-type]
