import numpy as np
import pytest
import torch
from torchvision.models.detection._utils import BoxCoder
from torchvision.models.detection.image_list import ImageList

from models.nn.rpn import PersonRpn
from models.proposals import (
    BOX_WEIGHTS,
    RPN_WEIGHTS,
    ProposalRule,
    anchors_of,
    decode_boxes,
    propose,
)

pytestmark = pytest.mark.torch

RULES = {
    "published": ProposalRule(before_nms=200, after_nms=40),
    "people's shapes": ProposalRule((32, 64, 128), (1.5, 2.8), before_nms=150, after_nms=30),
}


@pytest.fixture(params=RULES)
def rule(request) -> ProposalRule:
    return RULES[request.param]


def random_rpn(rule: ProposalRule) -> PersonRpn:
    torch.manual_seed(0)
    rpn = PersonRpn(8, rule).eval()
    for parameter in rpn.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return rpn


@torch.no_grad()
def test_proposals_in_numpy_are_those_of_the_torch_network(rule):
    rpn = random_rpn(rule)
    feature_map = torch.randn(1, 8, 9, 12)
    size = (140, 185)

    (theirs,), _ = rpn(ImageList(torch.zeros(1, 3, 144, 192), [size]), {"0": feature_map})
    objectness, deltas = (maps[0][0].permute(1, 2, 0).numpy() for maps in rpn.head([feature_map]))
    ours, logits = propose(objectness, deltas.reshape(*objectness.shape, 4), size, rule)

    assert len(ours) == rule.after_nms
    np.testing.assert_allclose(ours, theirs.numpy(), atol=1e-3)
    assert (np.diff(logits) <= 0).all()
    assert ours.min() >= 0
    assert (ours.max(axis=0) <= [185, 140, 185, 140]).all()


@torch.no_grad()
def test_anchors_in_numpy_are_those_of_the_torch_network(rule):
    generator = random_rpn(rule).anchor_generator
    images = ImageList(torch.zeros(1, 3, 80, 112), [(80, 112)])

    (theirs,) = generator(images, [torch.zeros(1, 8, 5, 7)])

    assert np.array_equal(anchors_of(5, 7, rule), theirs.numpy())


@pytest.mark.parametrize("weights", [RPN_WEIGHTS, BOX_WEIGHTS])
def test_boxes_are_decoded_as_torchvision_does_even_from_absurd_deltas(weights):
    rng = np.random.default_rng(0)
    corner = rng.uniform(0, 100, (300, 2))
    references = np.concatenate([corner, corner + rng.uniform(1, 80, (300, 2))], axis=1)
    references = references.astype(np.float32)
    deltas = rng.normal(0, 15, (300, 4)).astype(np.float32)

    theirs = BoxCoder(weights).decode_single(torch.from_numpy(deltas), torch.from_numpy(references))

    np.testing.assert_allclose(
        decode_boxes(deltas, references, weights), theirs.numpy(), rtol=1e-5, atol=1e-2
    )


def test_candidates_without_width_are_no_proposals(rule):
    anchors = len(rule.anchor_sizes) * len(rule.anchor_ratios)
    deltas = np.zeros((3, 3, anchors, 4), np.float32)
    deltas[..., 0] = 50  # far to the right of the picture: nothing is left after clipping

    boxes, logits = propose(np.zeros((3, 3, anchors), np.float32), deltas, (48, 48), rule)

    assert boxes.shape == (0, 4)
    assert logits.shape == (0,)
