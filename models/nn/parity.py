"""Whether a model file does what its network does: rounding is told from error.

Torch and ONNX Runtime add in different orders, and each of them in another one on another
processor, so their outputs differ in the last digits: they are compared within a tolerance. What is
chosen from outputs (proposals, people) differs wherever two boxes are nearly equal, and one such
toss-up changes many boxes after it. So choices are not compared with each other. Each is held
against torch's outputs, which say of every box whether it had to be kept, had to be dropped, or may
be either.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import normalize
from torchvision.models.detection.image_list import ImageList

from models.boxes import Boxes, box_iou, clip_boxes
from models.detections import Detections
from models.detector import OnnxDetector, choose_people, detection_scores
from models.errors import ModelFileError
from models.model_card import ModelCard
from models.nn.network import PersonSearchNet
from models.preprocess import prepare
from models.proposals import (
    BOX_WEIGHTS,
    MIN_DETECTION_SIDE,
    MIN_PROPOSAL_SIDE,
    RPN_WEIGHTS,
    anchors_of,
    decode_boxes,
    propose,
)

TOLERANCE = 3e-4
"""How far outputs may be apart, as a share of their size. Measured: rounding makes 4e-5 at most, in
networks that have not learned, and 5e-6 in others. A tenth of a layer's largest weight, added to
one of its weights, makes more than 5e-4 in every layer."""
SMALL_CHANNEL = 0.1
"""Channels that are smaller than this share of the whole output are compared with this share."""
PIXELS = 1e-3
"""What float32 may move a corner by, from the network's input to the picture and back."""
SCORES = 1e-6
"""What float32 may move a score by, or a logit as a share of the largest."""
LEAST_COSINE = 0.9999
SAME_IOU = 0.99

Floats = NDArray[np.float32]
Indices = NDArray[np.int64]
Mask = NDArray[np.bool_]


def check_parity(
    network: PersonSearchNet, model: Path, images: Sequence[NDArray[np.uint8]]
) -> dict[str, float]:
    """Compare a network with its model file on scenes, and on one with nobody in it.

    Outputs are compared on the same input: both scene graphs on the same picture, both heads on
    torch's feature map and proposals. What each then proposes and finds by itself is held against
    torch's outputs.

    Args:
        network: on the CPU and in evaluation mode.
        model: its model file.
        images: [H, W, 3] RGB.

    Returns:
        scenes; detections, of the model file; tossed_up, how many people only one of the two finds,
        since rounding decides; difference, the largest of all outputs, as a share of their size;
        least_cosine, of the embeddings of people that the model file finds.

    Raises:
        ModelFileError: more than rounding is between them; it names the scene and the difference.
    """
    detector = OnnxDetector(model)
    if detector.card.input != network.card.input:
        raise ModelFileError(
            f"parity: the model file prepares pictures by {detector.card.input}, "
            f"the network by {network.card.input}"
        )
    nobody = np.full((240, 320, 3), 127, np.uint8)
    found, tossed, difference, cosine = 0, 0, 0.0, 1.0
    for number, image in enumerate([*images, nobody]):
        try:
            scene = _compare(network, detector, image)
        except ModelFileError as error:
            raise ModelFileError(f"parity: scene {number}: {error}") from error
        found += scene.detections
        tossed += scene.tossed_up
        difference = max(difference, scene.difference)
        cosine = min(cosine, scene.least_cosine)
    return {
        "scenes": len(images) + 1,
        "detections": found,
        "tossed_up": tossed,
        "difference": difference,
        "least_cosine": cosine,
    }


def difference(expected: Floats, got: Floats) -> float:
    """How far outputs [..., C], or [R], are apart, as a share of the size of what is expected.

    The root mean square of the difference, of the worst channel as a share of the channel, and of
    the worst place as a share of the whole output; infinite where one is not finite.
    """
    channels = expected.shape[-1] if expected.ndim > 1 else 1
    whole = expected.reshape(-1, channels).astype(np.float64)
    apart = got.reshape(-1, channels) - whole
    if not apart.size:
        return 0.0
    if not np.isfinite(apart).all():
        return float("inf")
    size = float(_rms(whole)) or 1.0
    by_channel = _rms(apart, axis=0) / np.maximum(_rms(whole, axis=0), SMALL_CHANNEL * size)
    return float(max(by_channel.max(), (_rms(apart, axis=1) / size).max()))


@dataclass(frozen=True)
class Candidates:
    """What is chosen among, and how far rounding moves it.

    Attributes:
        boxes: [N, 4] in pixels of the network's input.
        ranks: [N], the larger the better.
        may, must: [N], which can be chosen, and which take part in any case.
        pixels, rank: how far rounding moves a corner, and one rank against another.
        nms_iou, most: the rule of the choice.
    """

    boxes: Boxes
    ranks: Floats
    may: Mask
    must: Mask
    pixels: float
    rank: float
    nms_iou: float
    most: int

    def check(self, chosen: Boxes) -> Indices:
        """Whether non-maximum suppression can have chosen these boxes [K, 4], best first.

        It keeps a box if no better kept box overlaps it by more than `nms_iou`, until it has `most`
        of them. So each box is judged by the kept ones alone.

        Returns:
            Which candidates [K] they are.

        Raises:
            ModelFileError: a chosen box is no candidate, should have been dropped, or one that was
                dropped should have been chosen.
        """
        if len(chosen) > self.most:
            raise ModelFileError(f"{len(chosen)} boxes are kept, expected at most {self.most}")
        kept = self._find(chosen)
        if (np.diff(self.ranks[kept]) > self.rank).any():
            raise ModelFileError("boxes are not kept best first")
        lowest, _ = iou_range(self.boxes[kept], self.boxes[kept], self.pixels)
        np.fill_diagonal(lowest, 0)
        if (lowest > self.nms_iou).any():
            raise ModelFileError(
                f"two kept boxes overlap by {lowest.max():.4f}, more than {self.nms_iou}"
            )
        left = np.setdiff1d(np.flatnonzero(self.must), kept)
        _, highest = iou_range(self.boxes[left], self.boxes[kept], self.pixels)
        better = self.ranks[kept] >= self.ranks[left][:, None] - self.rank
        dropped = ((highest >= self.nms_iou) & better).any(axis=1)
        if len(kept) == self.most:
            dropped |= self.ranks[left] <= self.ranks[kept].min() + self.rank
        if not dropped.all():
            raise ModelFileError(
                f"{np.sum(~dropped)} boxes are dropped that no better one overlaps"
            )
        return kept

    def _find(self, chosen: Boxes) -> Indices:
        """The candidates that chosen boxes are; of equal ones, the best."""
        may = np.flatnonzero(self.may)
        found = np.empty(len(chosen), np.int64)
        for number, box in enumerate(chosen):
            same = may[(np.abs(self.boxes[may] - box) <= self.pixels).all(axis=1)]
            if not len(same):
                raise ModelFileError(f"box {number} is kept, which torch does not have")
            found[number] = same[np.argmax(self.ranks[same])]
        return found


def iou_range(
    a: Boxes, b: Boxes, pixels: float
) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
    """The least and the largest IoU [N, M] of boxes [N, 4] and [M, 4], if corners move that far."""
    sides = np.minimum(a[:, None, 2:], b[None, :, 2:]) - np.maximum(a[:, None, :2], b[None, :, :2])
    least, most = (
        np.clip(sides + change, 0, None).prod(axis=-1) for change in (-2 * pixels, 2 * pixels)
    )
    (small_a, large_a), (small_b, large_b) = (
        [
            np.clip(boxes[:, 2:] - boxes[:, :2] + change, 0, None).prod(axis=-1)
            for change in (-2 * pixels, 2 * pixels)
        ]
        for boxes in (a, b)
    )
    widest = large_a[:, None] + large_b - least
    tightest = small_a[:, None] + small_b - most
    lowest = np.divide(least, widest, out=np.zeros_like(least), where=widest > 0)
    highest = np.divide(most, tightest, out=np.ones_like(most), where=tightest > most)
    return lowest, highest


@dataclass(frozen=True)
class _Scene:
    detections: int
    tossed_up: int
    difference: float
    least_cosine: float


@torch.no_grad()
def _compare(network: PersonSearchNet, detector: OnnxDetector, image: NDArray[np.uint8]) -> _Scene:
    card = detector.card
    prepared = prepare(image, card.input)
    pixels = torch.from_numpy(prepared.pixels)[None]
    feature_map = network.backbone(pixels).float()
    ours = _maps(network, feature_map)
    theirs = detector.scene_maps(prepared)
    largest = _check_outputs(ours, theirs, ("feature map", "objectness", "proposal deltas"))

    size = prepared.size
    (our_proposals,), _ = network.rpn(ImageList(pixels, [size]), {"0": feature_map})
    their_proposals, _ = propose(theirs[1], theirs[2], size, card.proposals)
    candidates = _among_anchors(ours, theirs, size, card)
    _choice("proposals of torch", candidates, our_proposals.numpy())
    _choice("proposals of ONNX", candidates, their_proposals)

    described = _describe(network, feature_map, our_proposals)
    on_ours = detector.head_outputs(np.ascontiguousarray(ours[0]), our_proposals.numpy())
    largest = max(
        largest, _check_outputs(described, on_ours, ("box deltas", "logits", "embeddings"))
    )

    boxes, scores, embeddings = network.roi_heads.detect(feature_map, our_proposals, size)
    found = Detections(boxes.numpy(), scores.numpy(), embeddings.numpy())
    candidates = _among_proposals(described, described, our_proposals.numpy(), size, card)
    _choice("people of torch", candidates, found.boxes)

    described = _describe(network, feature_map, torch.from_numpy(their_proposals))
    outputs = detector.head_outputs(theirs[0], their_proposals)
    got = choose_people(outputs, their_proposals, size, card.detections)
    candidates = _among_proposals(described, outputs, their_proposals, size, card)
    which = _choice("people of ONNX", candidates, got.boxes)
    cosine = (described[2][which] * got.embeddings).sum(axis=1).min(initial=1.0)
    if cosine < LEAST_COSINE:
        raise ModelFileError(f"cosine {cosine:.6f} between embeddings (needs {LEAST_COSINE})")
    same = box_iou(found.boxes, got.boxes) >= SAME_IOU
    alone = max(np.sum(~same.any(axis=1)), np.sum(~same.any(axis=0)))
    return _Scene(len(got), int(alone), largest, float(cosine))


def _maps(network: PersonSearchNet, feature_map: Tensor) -> list[Floats]:
    """The feature map [h, w, C], objectness [h, w, A] and deltas [h, w, A, 4] of one picture."""
    objectness, deltas = (maps[0] for maps in network.rpn.head([feature_map]))
    flat = [maps[0].permute(1, 2, 0).numpy() for maps in (feature_map, objectness, deltas)]
    return [*flat[:2], flat[2].reshape(*flat[1].shape, 4)]


def _describe(network: PersonSearchNet, feature_map: Tensor, boxes: Tensor) -> list[Floats]:
    """Deltas [R, 4], logits [R] or [R, h, w] and unit embeddings [R, D]."""
    heads = network.roi_heads
    deltas, logits, embeddings = heads.describe(heads.pool(feature_map, [boxes]))
    return [deltas.numpy(), logits.numpy(), normalize(embeddings).numpy()]


def _check_outputs(
    expected: Sequence[Floats], got: Sequence[Floats], names: Sequence[str]
) -> float:
    """The largest difference, which is rounding."""
    largest = 0.0
    for name, ours, theirs in zip(names, expected, got, strict=True):
        if ours.shape != theirs.shape:
            raise ModelFileError(f"{name}: {list(theirs.shape)} instead of {list(ours.shape)}")
        apart = difference(ours, theirs)
        if not apart <= TOLERANCE:
            raise ModelFileError(
                f"{name}: torch and ONNX are {apart:.1e} of its size apart "
                f"(rounding makes at most {TOLERANCE:.0e})"
            )
        largest = max(largest, apart)
    return largest


def _choice(name: str, candidates: Candidates, chosen: Boxes) -> Indices:
    try:
        return candidates.check(chosen)
    except ModelFileError as error:
        raise ModelFileError(f"{name}: {error}") from error


def _among_anchors(
    ours: Sequence[Floats], theirs: Sequence[Floats], size: tuple[int, int], card: ModelCard
) -> Candidates:
    """What proposals are chosen among: the anchors of the best logits."""
    rule = card.proposals
    logits = ours[1].reshape(-1)
    rank = _rank_margin(logits, theirs[1].reshape(-1))
    last = np.float32(-np.inf)
    if len(logits) > rule.before_nms:
        last = np.partition(logits, -rule.before_nms)[-rule.before_nms]
    near = np.flatnonzero(logits >= last - rank)
    height, width = ours[1].shape[:2]
    anchors = anchors_of(height, width, rule)[near]
    boxes, others = (
        _decoded(maps[2].reshape(-1, 4)[near], anchors, RPN_WEIGHTS, size)
        for maps in (ours, theirs)
    )
    pixels = _corner_margin(boxes, others)
    certain, possible = _longer(boxes, MIN_PROPOSAL_SIDE, pixels)
    return Candidates(
        boxes,
        logits[near],
        may=possible,
        must=certain & (logits[near] > last + rank),
        pixels=pixels,
        rank=rank,
        nms_iou=rule.nms_iou,
        most=rule.after_nms,
    )


def _among_proposals(
    ours: Sequence[Floats],
    theirs: Sequence[Floats],
    proposals: Boxes,
    size: tuple[int, int],
    card: ModelCard,
) -> Candidates:
    """What people are chosen among: the regressed boxes of proposals."""
    rule = card.detections
    scores, their_scores = detection_scores(ours[1]), detection_scores(theirs[1])
    ranks, their_ranks = (ours[1], theirs[1]) if ours[1].ndim == 1 else (scores, their_scores)
    boxes, others = (
        _decoded(outputs[0], proposals, BOX_WEIGHTS, size) for outputs in (ours, theirs)
    )
    pixels, score = _corner_margin(boxes, others), _rank_margin(scores, their_scores)
    certain, possible = _longer(boxes, MIN_DETECTION_SIDE, pixels)
    return Candidates(
        boxes,
        ranks,
        may=possible & (scores > rule.score_threshold - score),
        must=certain & (scores > rule.score_threshold + score),
        pixels=pixels,
        rank=_rank_margin(ranks, their_ranks),
        nms_iou=rule.nms_iou,
        most=rule.max_per_scene,
    )


def _decoded(
    deltas: Floats,
    references: Boxes,
    weights: tuple[float, float, float, float],
    size: tuple[int, int],
) -> Boxes:
    boxes = decode_boxes(deltas, references, weights)
    return clip_boxes(boxes, height=size[0], width=size[1])


def _longer(boxes: Boxes, least: float, pixels: float) -> tuple[Mask, Mask]:
    """Whose sides are longer: certainly, and possibly."""
    sides = (boxes[:, 2:] - boxes[:, :2]).min(axis=1)
    return sides > least + 2 * pixels, sides > least - 2 * pixels


def _corner_margin(ours: Boxes, theirs: Boxes) -> float:
    return PIXELS + float(np.abs(ours - theirs).max(initial=0))


def _rank_margin(ours: Floats, theirs: Floats) -> float:
    """How far rounding moves one rank against another: both move, in both."""
    largest = float(np.abs(ours).max(initial=0))
    return 2 * float(np.abs(ours - theirs).max(initial=0)) + SCORES * max(largest, SCORES)


def _rms(values: NDArray[np.float64], axis: int | None = None) -> NDArray[np.float64]:
    rms: NDArray[np.float64] = np.sqrt((values**2).mean(axis=axis))
    return rms
