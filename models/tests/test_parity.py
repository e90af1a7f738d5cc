"""The parity check passes whatever rounding can make of a network, and nothing else."""

import copy
import dataclasses
import json
import shutil

import numpy as np
import pytest
import torch

from models.boxes import nms
from models.detector import OnnxDetector
from models.errors import ModelFileError
from models.model_card import CARD_NAME
from models.nn.parity import TOLERANCE, Candidates, check_parity, difference, iou_range

pytestmark = pytest.mark.torch

ROUNDING = 1e-6
NMS_IOU = 0.4


@pytest.fixture
def network(tiny_network):
    """A copy of the network behind `tiny_model`, to be changed."""
    return copy.deepcopy(tiny_network)


@pytest.fixture
def changed_card(tiny_model, tmp_path):
    """Copies the model file with other rules in its card: `section`, and what changes in it."""

    def change(section, **changes):
        model = shutil.copytree(tiny_model, tmp_path / "model")
        card = json.loads((model / CARD_NAME).read_text())
        card[section].update(changes)
        (model / CARD_NAME).write_text(json.dumps(card))
        return model

    return change


def test_a_model_file_passes_its_parity_check(tiny_network, tiny_model, picture):
    parity = check_parity(tiny_network, tiny_model, [picture(seed) for seed in range(2)])

    assert parity["scenes"] == 3
    assert parity["detections"] > 3
    assert 0 < parity["difference"] < TOLERANCE / 4
    assert parity["least_cosine"] > 0.99999


@torch.no_grad()
def test_rounding_everywhere_passes(network, tiny_model, picture):
    generator = torch.Generator().manual_seed(0)
    for parameter in network.parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        parameter.mul_(1 + ROUNDING * noise)

    parity = check_parity(network, tiny_model, [picture(0)])

    assert parity["difference"] < TOLERANCE


@torch.no_grad()
def test_scores_that_are_equal_but_for_rounding_pass(make_tiny_network, picture, tmp_path):
    from models.nn.export import export

    network = make_tiny_network("nae_plus")
    network.roi_heads.embedding_head.rescaler.weight.mul_(1e-6)  # all regions have one score
    model = export(network, tmp_path)
    (found,) = OnnxDetector(model).detect([picture(0)])

    parity = check_parity(network, model, [picture(0)])

    assert np.ptp(found.scores) < 1e-5
    assert parity["detections"] > len(found) > 10


WEIGHTS = [
    "backbone.0.1.weight",
    "backbone.6.layers.1.1.weight",
    "backbone.10.layers.2.0.weight",
    "backbone.10.layers.2.1.running_var",
    "rpn.head.conv.0.0.weight",
    "rpn.head.bbox_pred.bias",
    "roi_heads.box_head.1.layers.0.0.weight",
    "roi_heads.box_regressor.1.running_mean",
    "roi_heads.embedding_head.projectors.feat_res4.0.weight",
    "roi_heads.embedding_head.projectors.feat_res5.1.weight",
    "roi_heads.embedding_head.rescaler.running_mean",
]


@pytest.mark.parametrize("name", WEIGHTS)
@torch.no_grad()
def test_one_weight_that_is_a_little_wrong_does_not_pass(network, tiny_model, picture, name):
    weights = network.state_dict()[name]
    weights.view(-1)[weights.numel() // 2] += 0.05 * weights.abs().amax().clamp(min=0.01)

    with pytest.raises(ModelFileError, match=r"parity: scene 0: .* of its size apart"):
        check_parity(network, tiny_model, [picture(0)])


@pytest.mark.parametrize(
    ("name", "output"),
    [
        ("backbone.10.layers.2", "feature map"),
        ("rpn.head.cls_logits", "objectness"),
        ("rpn.head.bbox_pred", "proposal deltas"),
        ("roi_heads.box_regressor", "box deltas"),
        ("roi_heads.embedding_head.projectors.feat_res5", "embeddings"),
    ],
)
@torch.no_grad()
def test_two_channels_in_each_others_place_do_not_pass(network, tiny_model, picture, name, output):
    for tensor in network.get_submodule(name).state_dict().values():
        if tensor.ndim:
            tensor[:2] = tensor[:2].flip(0).clone()

    with pytest.raises(ModelFileError, match=f"parity: scene 0: {output}: "):
        check_parity(network, tiny_model, [picture(0)])


def test_another_normalization_does_not_pass(network, tiny_model, picture):
    told = network.card.input
    network.card = dataclasses.replace(
        network.card, input=dataclasses.replace(told, mean=(0.5, 0.5, 0.5))
    )
    with pytest.raises(ModelFileError, match="parity: the model file prepares pictures by"):
        check_parity(network, tiny_model, [picture(0)])

    network.card = dataclasses.replace(network.card, input=told)
    for layer in network.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            layer.eps = 2e-3  # instead of 1e-3
    with pytest.raises(ModelFileError, match="parity: scene 0: feature map: "):
        check_parity(network, tiny_model, [picture(0)])


def test_another_stride_does_not_pass(network, tiny_model, picture):
    network.roi_heads.stride = 8

    with pytest.raises(ModelFileError, match=r"parity: scene 0: (box deltas|logits|embeddings): "):
        check_parity(network, tiny_model, [picture(0)])


@pytest.mark.parametrize(
    ("section", "changes"),
    [
        ("proposals", {"stride": 32}),
        ("proposals", {"nms_iou": 0.6}),
        ("proposals", {"nms_iou": 0.8}),
        ("proposals", {"after_nms": 80}),
        ("proposals", {"before_nms": 200}),
        ("proposals", {"anchor_ratios": [1.5, 2.7]}),
        ("detections", {"nms_iou": 0.3}),
        ("detections", {"nms_iou": 0.6}),
        ("detections", {"max_per_scene": 5}),
        ("detections", {"score_threshold": 0.6}),
        ("detections", {"score_threshold": 0.3}),
    ],
)
def test_another_rule_in_the_card_does_not_pass(
    tiny_network, changed_card, picture, section, changes
):
    with pytest.raises(ModelFileError, match=r"parity: scene \d: (proposals|people) of "):
        check_parity(tiny_network, changed_card(section, **changes), [picture(0), picture(1)])


def test_a_difference_is_a_share_of_the_size_of_the_channel_or_of_the_whole():
    expected = np.ones((4, 5, 2), np.float32)
    expected[..., 0] = 1000
    one_channel, one_place, unbounded = (expected.copy() for _ in range(3))
    one_channel[..., 0] += 1
    one_place[0, 0, 1] += 10
    unbounded[0, 0, 0] = np.nan

    assert difference(expected, expected) == 0
    assert difference(expected, one_channel) == pytest.approx(1e-3)
    assert difference(expected, 1e-3 * expected) == pytest.approx(0.999, abs=1e-3)
    assert 1e-3 < difference(expected, one_place) < 0.1
    assert difference(expected, unbounded) == np.inf
    assert difference(expected[:0], expected[:0]) == 0


def test_moved_corners_keep_the_iou_in_its_range():
    rng = np.random.default_rng(0)
    a, b = crowd(rng, 30)[0], crowd(rng, 30)[0]
    lowest, highest = iou_range(a, b, 0.5)

    for _ in range(20):
        moved = [boxes + rng.uniform(-0.5, 0.5, boxes.shape).astype(np.float32) for boxes in (a, b)]
        (least, _), (most, _) = (iou_range(*boxes, 0) for boxes in (moved, moved))
        assert (least >= lowest - 1e-5).all()
        assert (most <= highest + 1e-5).all()
    assert (highest - lowest).max() > 0.02


def crowd(rng, count):
    """Boxes [N, 4], many over each other, and their ranks [N], many nearly equal."""
    corners = rng.uniform(0, 60, (count, 2))
    boxes = np.concatenate([corners, corners + rng.uniform(5, 40, (count, 2))], axis=1)
    ranks = np.round(rng.normal(size=count), 1) + rng.uniform(0, 1e-4, count)
    return boxes.astype(np.float32), ranks.astype(np.float32)


def candidates(boxes, ranks, *, pixels=1e-3, rank=1e-3, cut=-0.5, most=100):
    """Those whose rank is above the cut."""
    return Candidates(
        boxes,
        ranks,
        may=ranks > cut - rank,
        must=ranks > cut + rank,
        pixels=pixels,
        rank=rank,
        nms_iou=NMS_IOU,
        most=most,
    )


def choose(boxes, ranks, *, cut=-0.5, most=100):
    good = np.flatnonzero(ranks > cut)
    return good[nms(boxes[good], ranks[good], NMS_IOU, keep=most)]


@pytest.mark.parametrize("count", [0, 1, 30, 200])
def test_every_choice_that_rounding_can_make_passes(count):
    rng = np.random.default_rng(count)
    differing = 0
    for _ in range(50):
        boxes, ranks = crowd(rng, count)
        moved = boxes + rng.uniform(-1e-2, 1e-2, boxes.shape).astype(np.float32)
        reranked = ranks + rng.uniform(-1e-2, 1e-2, count).astype(np.float32)
        chosen = choose(moved, reranked, most=20)

        among = candidates(boxes, ranks, pixels=1e-2, rank=2e-2, most=20)
        which = among.check(moved[chosen])

        assert which.tolist() == chosen.tolist()
        differing += set(chosen) != set(choose(boxes, ranks, most=20))
    assert differing > 10 or count < 30


def test_any_other_choice_does_not_pass():
    rng = np.random.default_rng(1)
    for _ in range(30):
        boxes, ranks = crowd(rng, 40)
        ranks = rng.permutation(40).astype(np.float32) / 10 - 1
        right = choose(boxes, ranks)
        among = candidates(boxes, ranks)
        dropped = np.setdiff1d(np.flatnonzero(ranks > -0.5), right)
        below = np.flatnonzero(ranks < -0.6)

        among.check(boxes[right])
        for wrong, told in (
            (right[1:], "no better one overlaps"),
            (right[:-1], "no better one overlaps"),
            (np.append(right, dropped[-1]), "overlap by|best first"),
            (np.append(right, below[0]), "which torch does not have"),
            (right[::-1], "best first"),
        ):
            with pytest.raises(ModelFileError, match=told):
                among.check(boxes[wrong])


def test_more_boxes_than_the_rule_allows_do_not_pass():
    boxes = np.array([[50 * i, 0, 50 * i + 10, 20] for i in range(21)], np.float32)
    among = candidates(boxes, np.linspace(2, 1, 21).astype(np.float32), most=20)

    among.check(boxes[:20])
    with pytest.raises(ModelFileError, match="21 boxes are kept, expected at most 20"):
        among.check(boxes)
    with pytest.raises(ModelFileError, match="no better one overlaps"):
        among.check(boxes[1:])


def test_of_equal_boxes_the_better_one_was_chosen():
    boxes = np.array([[0, 0, 10, 20]] * 3, np.float32)
    ranks = np.array([0.1, 0.9, 0.5], np.float32)

    assert candidates(boxes, ranks).check(boxes[:1]).tolist() == [1]
