import numpy as np
import pytest
import torch

from models.nn.backbone import efficientnet_lite0_c4, with_batch_norm_folded
from models.nn.depthwise import Depthwise5x5
from models.nn.distillation import teacher_losses
from models.nn.nae_parts_head import NaePartsHead, _parts
from models.nn.network import build_network

pytestmark = pytest.mark.torch


def unit(count, dim=8, seed=0):
    rows = torch.randn(count, dim, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.normalize(rows)


def test_the_losses_are_what_their_formulas_say():
    embeddings, answers = unit(5), unit(5, seed=1)

    losses = teacher_losses(embeddings, answers)

    apart = [1 - float(e @ a) for e, a in zip(embeddings, answers, strict=True)]
    pairs = [
        float(embeddings[i] @ embeddings[j] - answers[i] @ answers[j]) ** 2
        for i in range(5)
        for j in range(5)
        if i != j
    ]
    assert losses["loss_teacher"] == pytest.approx(np.mean(apart), abs=1e-6)
    assert losses["loss_similarity"] == pytest.approx(np.mean(pairs), abs=1e-6)


def test_who_agrees_with_the_teacher_loses_nothing():
    answers = unit(4)

    assert all(
        float(loss) == pytest.approx(0, abs=1e-6)
        for loss in teacher_losses(answers, answers).values()
    )


def test_nobody_is_learned_from_about_whom_the_teacher_was_not_asked():
    embeddings, answers = unit(4).requires_grad_(True), unit(4, seed=1)
    answers[2] = 0

    losses = teacher_losses(embeddings, answers)
    sum(losses.values()).backward()

    kept = [0, 1, 3]
    fewer = teacher_losses(embeddings[kept], answers[kept])
    for name, loss in losses.items():
        assert loss.item() == pytest.approx(fewer[name].item(), abs=1e-6)
    assert not embeddings.grad[2].any() and embeddings.grad[0].any()


@pytest.mark.parametrize("count", [0, 2])
def test_a_batch_without_answers_has_losses_of_zero_that_can_be_differentiated(count):
    embeddings = unit(count).requires_grad_(True)

    losses = teacher_losses(embeddings, torch.zeros(count, 8))
    sum(losses.values()).backward()

    assert [loss.item() for loss in losses.values()] == [0, 0]


def test_following_the_losses_leads_to_the_answers_similarities():
    answers = unit(12, seed=3)
    free = unit(12, seed=4).requires_grad_(True)
    optimizer = torch.optim.Adam([free], lr=0.05)

    for _ in range(200):
        loss = teacher_losses(torch.nn.functional.normalize(free), answers)["loss_similarity"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    found = torch.nn.functional.normalize(free.detach())
    assert (found @ found.T - answers @ answers.T).abs().max() < 0.02
    assert (found * answers).sum(dim=1).mean() < 0.9  # their directions were not asked for


@pytest.mark.parametrize(
    ("stride", "size"), [(1, (6, 3)), (1, (16, 9)), (2, (15, 9)), (2, (16, 9))]
)
def test_the_faster_gradient_of_a_depthwise_convolution_is_the_plain_one(stride, size):
    torch.manual_seed(0)
    layer = Depthwise5x5(8, stride=stride, padding=2 if stride == 1 else 0)
    x = torch.randn(4, 8, *size).contiguous(memory_format=torch.channels_last).requires_grad_(True)

    made = layer(x)
    gradient = torch.randn_like(made)
    found = torch.autograd.grad(made, (x, layer.weight), gradient)

    plain = torch.nn.functional.conv2d(
        x, layer.weight, stride=stride, padding=layer.padding, groups=8
    )
    wanted = torch.autograd.grad(plain, (x, layer.weight), gradient)
    assert torch.equal(made, plain)
    for one, other in zip(found, wanted, strict=True):
        assert torch.allclose(one, other, rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_folded_batch_norms_change_no_result():
    torch.manual_seed(0)
    trunk = efficientnet_lite0_c4().trunk.train()
    picture = torch.randn(2, 3, 64, 64)
    trunk(picture)  # statistics of its own
    trunk.eval()

    folded = with_batch_norm_folded(trunk)

    assert not any(isinstance(m, torch.nn.BatchNorm2d) for m in folded.modules())
    np.testing.assert_allclose(folded(picture), trunk(picture), rtol=1e-3, atol=1e-4)


def targets(count):
    boxes = torch.tensor([[4.0, 4, 30, 60], [34, 4, 60, 60]])
    answers = unit(2, dim=16)
    return [{"boxes": boxes, "person_ids": torch.tensor([0, 1]), "answers": answers}] * count


def test_frozen_stages_keep_weights_and_statistics_and_the_rest_learns():
    torch.manual_seed(0)
    network = build_network(
        "nae_parts", "efficientnet_lite0", num_ids=2, embedding_dim=16, min_size=64
    )
    network.learn_only_reid()
    network.freeze(6)
    network.train()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    optimizer = torch.optim.SGD([p for p in network.parameters() if p.requires_grad], lr=0.1)

    for _ in range(2):
        losses = network(torch.randn(2, 3, 64, 64), [(64, 64)] * 2, targets(2))
        optimizer.zero_grad()
        sum(losses.values()).backward()
        optimizer.step()

    assert set(losses) == {"loss_reid", "loss_teacher", "loss_similarity"}
    after = network.state_dict()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    frozen = tuple(f"backbone.{stage}." for stage in range(6))
    assert not [name for name in changed if name.startswith(frozen)]
    assert any(name.startswith("backbone.6.") for name in changed)
    assert any(name.startswith("roi_heads.embedding_head.projectors") for name in changed)


def test_a_frozen_network_sees_the_weights_that_came_after_it_was_frozen():
    torch.manual_seed(0)
    network, other = (
        build_network("nae", "efficientnet_lite0", embedding_dim=16) for _ in range(2)
    )
    network.freeze(4)
    network.load_state_dict(other.state_dict())
    picture = torch.randn(1, 3, 64, 64)

    with torch.no_grad():
        found = network.eval().features(picture)
        wanted = other.eval().backbone(picture)

    np.testing.assert_allclose(found, wanted, rtol=1e-3, atol=1e-4)


def test_more_stages_than_there_are_cannot_be_frozen():
    with pytest.raises(ValueError, match="expected at most 12 stages to freeze, got 99"):
        build_network("nae", "efficientnet_lite0").freeze(99)


def test_answers_reach_the_regions_of_scenes_too():
    torch.manual_seed(0)
    network = build_network("nae_parts", "efficientnet_lite0", num_ids=2, embedding_dim=16).train()

    losses = network(torch.randn(2, 3, 64, 64), [(64, 64)] * 2, targets(2))

    assert losses["loss_teacher"].item() > 0.3
    assert {"loss_detection", "loss_objectness", "loss_similarity"} <= set(losses)


@torch.no_grad()
@pytest.mark.parametrize("height", [3, 6, 7, 12, 14])
def test_parts_are_the_means_of_adaptive_pooling_and_the_maximum(height):
    maps = torch.randn(2, 5, height, 3)

    parts = _parts(maps)

    rows = torch.nn.functional.adaptive_avg_pool2d(maps, (6, 1)).flatten(1)
    np.testing.assert_allclose(parts[:, :30], rows, rtol=1e-4, atol=1e-5)
    assert torch.equal(parts[:, 30:], maps.amax(dim=(2, 3)))


@torch.no_grad()
def test_rows_of_a_region_are_told_apart_which_the_maximum_alone_does_not():
    torch.manual_seed(0)
    head = NaePartsHead(6, 10, dim=8).eval()
    for parameter in head.parameters():
        torch.nn.init.normal_(parameter)
    trunk_map, head_map = torch.randn(3, 6, 12, 6), torch.randn(3, 10, 6, 3)

    upright, _ = head(trunk_map, head_map)
    upside_down, _ = head(trunk_map.flip(2), head_map.flip(2))
    mirrored, _ = head(trunk_map.flip(3), head_map.flip(3))

    assert (upright * upside_down).sum(dim=1).max() < 0.9
    np.testing.assert_allclose(mirrored, upright, atol=1e-5)
