import copy

import numpy as np
import pytest
import torch
from torch import nn

from models.detector import REACH
from models.model_card import ModelCard
from models.nn.backbone import BACKBONES
from models.nn.network import build_network
from models.nn.roi_heads import PersonSearchRoIHeads
from models.preprocess import prepare

pytestmark = pytest.mark.torch

LOSSES = {
    "loss_objectness", "loss_rpn_box_reg", "loss_detection", "loss_box_reg", "loss_reid"
}  # fmt: skip


@pytest.fixture
def network(tiny_network) -> nn.Module:
    """A copy that may be trained."""
    torch.manual_seed(0)
    return copy.deepcopy(tiny_network).train()


def batch(network, picture, people: list[list[tuple[float, float, float, float]]]):
    """As many pictures as lists of boxes; everybody is person 0."""
    prepared = [prepare(picture(seed), network.card.input) for seed in range(len(people))]
    targets = [
        {
            "boxes": torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
            "person_ids": torch.zeros(len(boxes), dtype=torch.long),
        }
        for boxes in people
    ]
    images = torch.stack([torch.from_numpy(one.pixels) for one in prepared])
    return images, [one.size for one in prepared], targets


@pytest.mark.parametrize("name", BACKBONES)
def test_no_trunk_sees_further_than_a_box_is_given_room_for(name):
    trunk = BACKBONES[name]().trunk.eval()
    for module in trunk.modules():
        if isinstance(module, nn.Conv2d):  # a mean of all that it sees; small, so none is cut off
            nn.init.constant_(module.weight, 1 / module.weight[0].numel())
    side = 2 * REACH + 32
    picture = torch.full((1, 3, side, side), 1e-3, dtype=torch.double, requires_grad=True)

    trunk.double()(picture)[:, :, side // 32, side // 32].sum().backward()

    seen = picture.grad.abs().amax(dim=(0, 1)).nonzero()
    step = 16  # of the feature map, which RoIAlign blends between neighbours of
    assert (side // 2 - seen.amin(dim=0)).max() + step <= REACH
    assert (seen.amax(dim=0) - side // 2).max() + step <= REACH


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"head": "best"}, "unknown head 'best': expected one of nae"),
        ({"backbone": "vgg16"}, "unknown backbone 'vgg16': expected one of resnet50, "),
        ({"pretrained": True}, "no package ships ImageNet weights of resnet50"),
    ],
)
def test_what_cannot_be_built_is_refused_by_name(arguments, told):
    with pytest.raises(ValueError, match=told):
        build_network(**arguments)


def test_a_network_knows_its_card():
    with torch.device("meta"):
        card = build_network(
            backbone="efficientnet_lite0", name="mine", embedding_dim=32, roi_size=(8, 4),
            min_size=200,
        ).card  # fmt: skip

    assert isinstance(card, ModelCard)
    assert (card.name, card.embedding_dim, card.roi_size) == ("mine", 32, (8, 4))
    assert card.input.min_size == 200
    assert card.input.max_size >= 200


def test_the_stem_of_resnet_50_does_not_train():
    with torch.device("meta"):
        network = build_network("nae", "resnet50")

    frozen = {name for name, p in network.named_parameters() if not p.requires_grad}
    assert frozen == {"backbone.conv1.weight", "backbone.bn1.weight", "backbone.bn1.bias"}


def test_every_loss_reaches_the_trunk_or_what_it_is_for(network, picture):
    images, sizes, targets = batch(network, picture, [[(20, 20, 60, 110)], [(40, 10, 90, 120)]])

    losses = network(images, sizes, targets)
    sum(losses.values()).backward()

    assert losses.keys() == LOSSES
    assert all(torch.isfinite(loss) and loss > 0 for loss in losses.values())
    unmoved = [n for n, p in network.named_parameters() if p.requires_grad and p.grad is None]
    assert unmoved == []


def test_a_picture_without_people_trains(network, picture):
    images, sizes, targets = batch(network, picture, [[], [(40, 10, 90, 120)]])
    nobody, no_sizes, no_targets = batch(network, picture, [[], []])

    mixed = network(images, sizes, targets)
    empty = network(nobody, no_sizes, no_targets)
    sum(empty.values()).backward()

    assert all(torch.isfinite(loss) for loss in (*mixed.values(), *empty.values()))
    assert empty["loss_reid"] == empty["loss_box_reg"] == empty["loss_rpn_box_reg"] == 0
    assert empty["loss_objectness"] > 0


def test_the_same_seed_trains_alike(network, picture):
    scenes = batch(network, picture, [[(20, 20, 60, 110)], [(40, 10, 90, 120)]])
    values = []

    for _ in range(2):
        twin = copy.deepcopy(network)
        torch.manual_seed(5)
        values.append({name: loss.item() for name, loss in twin(*scenes).items()})

    assert values[0] == values[1]


def test_anchors_on_ignored_people_are_neither_people_nor_background(network):
    anchors = [torch.tensor([[0.0, 0, 40, 100], [100, 0, 140, 100], [200, 0, 240, 100]])]
    target = {"boxes": torch.tensor([[0.0, 0, 40, 100]])}
    ignored = {**target, "ignored": torch.tensor([[105.0, 0, 145, 100]])}

    (plain,), _ = network.rpn.assign_targets_to_anchors(anchors, [target])
    (labels,), _ = network.rpn.assign_targets_to_anchors(anchors, [ignored])

    assert plain.tolist() == [1, 0, 0]
    assert labels.tolist() == [1, -1, 0]


def every_region(heads: PersonSearchRoIHeads, boxes: list, target: dict):
    """What the sampler chooses from when it may choose everything."""
    (sampled,) = heads.sample([torch.tensor(boxes)], [target])
    return sampled


def test_regions_on_ignored_people_are_left_out(network):
    proposals = [[0.0, 0, 40, 100], [100, 0, 140, 100], [200, 0, 240, 100]]
    target = {"boxes": torch.tensor([[0.0, 0, 40, 98]]), "person_ids": torch.tensor([4])}
    ignored = {**target, "ignored": torch.tensor([[100.0, 0, 140, 90]])}

    plain = every_region(network.roi_heads, proposals, target)
    sampled = every_region(network.roi_heads, proposals, ignored)

    assert plain.is_person.tolist() == [True, False, False, True]
    assert sampled.boxes.tolist() == [proposals[0], proposals[2], [0, 0, 40, 98]]
    assert sampled.is_person.tolist() == [True, False, True]
    assert sampled.person_ids[sampled.is_person].tolist() == [4, 4]


def test_regions_that_overlap_somebody_a_little_are_left_out(network):
    proposals = [[0.0, 30, 40, 130], [0, 60, 40, 160], [0, 95, 40, 195]]  # IoU 0.54, 0.25, 0.03
    target = {"boxes": torch.tensor([[0.0, 0, 40, 100]]), "person_ids": torch.tensor([2])}

    sampled = every_region(network.roi_heads, proposals, target)

    assert sampled.boxes.tolist() == [proposals[0], proposals[2], [0, 0, 40, 100]]
    assert sampled.is_person.tolist() == [True, False, True]


def test_no_more_regions_are_learnt_from_than_are_asked_for(picture):
    torch.manual_seed(0)
    network = build_network(
        "nae", "efficientnet_lite0", num_ids=1, queue_size=0, regions_per_image=6, min_size=128
    )
    target = {"boxes": torch.tensor([[0.0, 0, 40, 100]]), "person_ids": torch.tensor([0])}
    corner = torch.rand(50, 2) * 100
    proposals = torch.cat([corner, corner + 60], dim=1)

    (sampled,) = network.roi_heads.sample([proposals], [target])

    assert len(sampled.boxes) == 6
    assert sampled.is_person.sum() <= 3


def test_embeddings_of_boxes_have_unit_length_and_differ(tiny_network, picture):
    boxes = np.array([[10, 10, 50, 120], [90, 5, 140, 140], [20, 30, 44, 90]], np.float32)

    embeddings = tiny_network.embed(picture(3), boxes)

    np.testing.assert_allclose(np.linalg.norm(embeddings, axis=1), 1, rtol=1e-5)
    assert (embeddings @ embeddings.T)[np.triu_indices(3, 1)].max() < 0.99
