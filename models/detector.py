"""Find people in scenes and describe them, with ONNX Runtime and NumPy."""

import os
import threading
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from models.boxes import Boxes, clip_boxes, nms
from models.cores import usable_cores
from models.detections import Detections
from models.errors import BoxError, ModelFileError
from models.model_card import (
    CARD_NAME,
    HEAD_GRAPH,
    SCENE_GRAPH,
    DetectionRule,
    ModelCard,
    load_card,
    verified_graph,
)
from models.preprocess import PreparedImage, prepare, prepare_around, prepare_crop
from models.proposals import BOX_WEIGHTS, MIN_DETECTION_SIDE, decode_boxes, propose
from models.roi_align import roi_align

os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # read while it is imported
import onnxruntime

SHIPPED_MODELS = Path(__file__).parent / "weights"
DEFAULT_MODEL = SHIPPED_MODELS / "nae-lite"
PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}
# Memory grows with the regions of one run, speed does not: measured flat from 8 to 300.
ROI_CHUNK = 32
REACH = 200
"""How many input pixels around a box can affect its embedding: half the receptive field of a cell
of the feature map (133 with resnet50, 184 with efficientnet_lite0), plus the 16 pixels to the next
cell, which RoIAlign blends in."""

Pixels = NDArray[np.uint8]


def model_directory(model: Path) -> Path:
    """The directory of a model given by its path or, if it ships with this package, by its name."""
    shipped = SHIPPED_MODELS / model
    return shipped if len(model.parts) == 1 and not model.exists() and shipped.is_dir() else model


class Detector(Protocol):
    """What a gallery and a service need of a detector."""

    @property
    def card(self) -> ModelCard: ...

    def detect(self, images: Sequence[Pixels]) -> list[Detections]: ...

    def embed(self, image: Pixels, boxes: NDArray[np.floating]) -> NDArray[np.float32]: ...

    def embed_crop(self, image: Pixels) -> NDArray[np.float32]: ...


class OnnxDetector:
    """A model file, ready to run.

    The same picture always gives the same answer: pictures run one by one, not in batches.
    Calls from several threads are allowed; ONNX Runtime runs each on `threads` threads.
    """

    def __init__(
        self,
        model: Path = DEFAULT_MODEL,
        *,
        threads: int = 0,
        device: str = "cpu",
        score_threshold: float | None = None,
    ) -> None:
        """Load and verify a model.

        Args:
            model: a model directory, or the card in it; or the bare name of one that ships.
            threads: for each graph; 0 is one for each of usable_cores().
            device: "cpu" or "cuda".
            score_threshold: instead of the card's.

        Raises:
            ModelFileError: the model is missing or damaged, or the device is not there.
        """
        directory = model.parent if model.name == CARD_NAME else model_directory(model)
        self.card = load_card(directory)
        self._rule = self.card.detections
        if score_threshold is not None:
            self._rule = replace(self._rule, score_threshold=score_threshold)
        threads = threads or usable_cores()
        graphs = [verified_graph(self.card, directory, name) for name in (SCENE_GRAPH, HEAD_GRAPH)]
        self._scene, self._head = (_session(graph, threads, device) for graph in graphs)
        self._busy = threading.Lock()

    def detect(self, images: Sequence[Pixels]) -> list[Detections]:
        """People in each scene [H, W, 3] uint8 RGB, best score first."""
        return [self._detect_one(image) for image in images]

    def embed(self, image: Pixels, boxes: NDArray[np.floating]) -> NDArray[np.float32]:
        """Embeddings [N, D], unit length, of given boxes [N, 4] in a scene.

        For a single box, only the part of the scene that can affect it is computed; the result
        differs by rounding alone.

        Raises:
            BoxError: a box is not finite, is empty, or leaves the picture by more than a pixel.
        """
        height, width = image.shape[:2]
        checked = check_boxes(boxes, height=height, width=width)
        if len(checked) == 1:
            prepared = prepare_around(image, checked[0], self.card.input, margin=REACH)
        else:
            prepared = prepare(image, self.card.input)
        return self._embed_prepared(prepared, prepared.to_network(checked))

    def embed_crop(self, image: Pixels) -> NDArray[np.float32]:
        """The unit embedding [D] of a picture that is one person's crop."""
        prepared = prepare_crop(image, self.card.input)
        height, width = prepared.size
        embedding: NDArray[np.float32] = self._embed_prepared(
            prepared, np.array([[0, 0, width, height]], np.float32)
        )[0]
        return embedding

    def attention(self, image: Pixels, boxes: NDArray[np.floating]) -> NDArray[np.float32]:
        """How surely each part of given boxes [N, 4] shows a person: [N, h, w] in [0, 1].

        Only NAE+ scores the pixels of a region.

        Raises:
            ModelFileError: the model is not an NAE+.
            BoxError: as `embed`.
        """
        if not self.card.pixel_wise:
            raise ModelFileError(
                f"{self.card.name}: expected a model with an NAE+ head, which scores pixels; "
                f"its head is {self.card.head!r}"
            )
        height, width = image.shape[:2]
        checked = check_boxes(boxes, height=height, width=width)
        prepared = prepare(image, self.card.input)
        feature_map = self.scene_maps(prepared)[0]
        return _sigmoid(self.head_outputs(feature_map, prepared.to_network(checked))[1])

    def scene_maps(self, prepared: PreparedImage) -> list[NDArray[np.float32]]:
        """Feature map [h, w, C], objectness [h, w, A] and deltas [h, w, A, 4] of one picture."""
        with self._busy:
            maps: list[Any] = self._scene.run(None, {"image": prepared.pixels[None]})
        return [m[0] for m in maps]

    def head_outputs(
        self, feature_map: NDArray[np.float32], boxes: Boxes
    ) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
        """Deltas [R, 4], logits [R] and unit embeddings [R, D] of boxes on a feature map.

        An NAE+ has a logit for each pixel of a region: [R, h, w].
        """
        parts: list[Any] = []
        for start in range(0, len(boxes), ROI_CHUNK):
            regions = roi_align(
                feature_map,
                boxes[start : start + ROI_CHUNK],
                self.card.roi_size,
                self.card.proposals.stride,
            )
            with self._busy:
                parts.append(self._head.run(None, {"regions": regions}))
        if not parts:
            dim = self.card.embedding_dim
            shapes = (0, 4), (0, 1, 1) if self.card.pixel_wise else (0,), (0, dim)
            deltas, logits, embeddings = (np.zeros(shape, np.float32) for shape in shapes)
            return deltas, logits, embeddings
        deltas, logits, embeddings = (np.concatenate(column) for column in zip(*parts, strict=True))
        return deltas, logits, embeddings

    def _embed_prepared(self, prepared: PreparedImage, boxes: Boxes) -> NDArray[np.float32]:
        return self.head_outputs(self.scene_maps(prepared)[0], boxes)[2]

    def _detect_one(self, image: Pixels) -> Detections:
        prepared = prepare(image, self.card.input)
        feature_map, objectness, deltas = self.scene_maps(prepared)
        proposals, _ = propose(objectness, deltas, prepared.size, self.card.proposals)
        outputs = self.head_outputs(feature_map, proposals)
        found = choose_people(outputs, proposals, prepared.size, self._rule)
        return Detections(prepared.to_original(found.boxes), found.scores, found.embeddings)


def choose_people(
    outputs: tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]],
    proposals: Boxes,
    size: tuple[int, int],
    rule: DetectionRule,
) -> Detections:
    """Which proposals [R, 4] are people, best score first.

    Args:
        outputs: of the head for these proposals.
        size: height and width of the resized picture without its padding.

    Returns:
        Boxes in pixels of the resized picture.
    """
    deltas, logits, embeddings = outputs
    scores = detection_scores(logits)
    boxes = decode_boxes(deltas, proposals, BOX_WEIGHTS)
    boxes = clip_boxes(boxes, height=size[0], width=size[1])
    sides = boxes[:, 2:] - boxes[:, :2]
    good = np.flatnonzero(
        (scores > rule.score_threshold) & (sides >= MIN_DETECTION_SIDE).all(axis=1)
    )
    # Scores near 1 are equal in float32 where logits are not.
    ranking = logits if logits.ndim == 1 else scores
    kept = good[nms(boxes[good], ranking[good], rule.nms_iou, keep=rule.max_per_scene)]
    return Detections(boxes[kept], scores[kept], embeddings[kept])


def detection_scores(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """Detection scores [R] in [0, 1] of one scene's regions, from their logits [R].

    For the pixel logits [R, h, w] of NAE+, a score is the mean of their sigmoids divided by the
    scene's best. (The published code divides by the best of the whole batch, so a scene's scores
    depend on the other scenes; with one scene in a batch that is the same.)
    """
    scores = _sigmoid(logits)
    if scores.ndim == 1 or not len(scores):
        return scores.reshape(len(scores))
    raw: NDArray[np.float32] = scores.mean(axis=(1, 2))
    normalized: NDArray[np.float32] = raw / raw.max()
    return normalized


def check_boxes(boxes: NDArray[np.floating], *, height: int, width: int) -> Boxes:
    """Boxes [N, 4] checked against a picture; an overhang of up to a pixel is cut off.

    Raises:
        BoxError: naming the box, the picture's size and what is wrong.
    """
    array = np.asarray(boxes, np.float64)
    if array.ndim != 2 or array.shape[1] != 4:
        raise BoxError(f"expected boxes [N, 4], got an array {list(array.shape)}")
    for x1, y1, x2, y2 in array:
        named = f"box ({x1:g}, {y1:g}, {x2:g}, {y2:g})"
        if not np.isfinite([x1, y1, x2, y2]).all():
            raise BoxError(f"{named} is not finite")
        if x2 <= x1 or y2 <= y1:
            raise BoxError(f"{named} is empty: expected x1 < x2 and y1 < y2")
        outside = x2 <= 0 or y2 <= 0 or x1 >= width or y1 >= height
        if outside or x1 < -1 or y1 < -1 or x2 > width + 1 or y2 > height + 1:
            raise BoxError(f"{named} leaves the picture of {width}×{height} pixels")
    return clip_boxes(array.astype(np.float32), height=height, width=width)


def _sigmoid(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    scores: NDArray[np.float32] = (1 / (1 + np.exp(-logits.astype(np.float64)))).astype(np.float32)
    return scores


def _session(graph: bytes, threads: int, device: str) -> Any:
    provider = PROVIDERS.get(device)
    if provider not in onnxruntime.get_available_providers():
        raise ModelFileError(
            f"device {device!r} is not available: ONNX Runtime here offers "
            f"{', '.join(onnxruntime.get_available_providers())}"
        )
    if device == "cuda":
        onnxruntime.preload_dlls()  # CUDA and cuDNN that were installed as packages
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    # Idle threads that spin take the cores from NumPy between the graphs: 18 % of a detection.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        session = onnxruntime.InferenceSession(graph, options, providers=[provider])
    except Exception as error:  # ONNX Runtime raises many types of its own
        raise ModelFileError(f"ONNX Runtime cannot load the graph: {error}") from error
    if provider not in session.get_providers():  # it says so in its log, and takes the CPU
        raise ModelFileError(
            f"device {device!r} cannot be used: its driver or one of its libraries is not there"
        )
    return session
