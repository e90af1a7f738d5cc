"""Identities as learned directions: the loss, and networks that train by it."""

import pytest

torch = pytest.importorskip("torch")

from torch.nn import functional  # noqa: E402

from models.nn import cosine_softmax  # noqa: E402
from models.nn.cosine_softmax import CosineSoftmaxLoss  # noqa: E402
from models.nn.network import build_network  # noqa: E402
from models.nn.reid_losses import REID_LOSSES  # noqa: E402

pytestmark = pytest.mark.torch

DIM = 6


def embeddings(count: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return functional.normalize(torch.randn(count, DIM, generator=generator), dim=1)


def made(num_ids: int = 4, **changes) -> CosineSoftmaxLoss:
    torch.manual_seed(2)
    return CosineSoftmaxLoss(num_ids, dim=DIM, **changes)


def test_the_loss_is_the_cross_entropy_of_smoothed_labels_over_cosines():
    loss, rows, ids = made(scalar=10, smoothing=0.2), embeddings(3), [2, 0, 2]

    value = loss(rows, torch.tensor(ids))

    expected = []
    for row, person in zip(rows, ids, strict=True):
        cosines = [functional.cosine_similarity(row, way, dim=0) for way in loss.directions]
        surprise = -torch.log_softmax(10 * torch.stack(cosines), dim=0)
        expected.append(0.8 * surprise[person] + 0.2 * surprise.mean())
    assert value.item() == pytest.approx(torch.stack(expected).mean().item(), rel=1e-5)


def test_only_the_angles_of_directions_count():
    loss, rows, ids = made(), embeddings(4), torch.tensor([0, 1, 2, 3])
    before = loss(rows, ids).item()

    with torch.no_grad():
        loss.directions *= torch.tensor([0.1, 1.0, 7.0, 50.0])[:, None]

    assert loss(rows, ids).item() == pytest.approx(before, rel=1e-5)


def test_directions_begin_unlike_each_other_and_short():
    directions = CosineSoftmaxLoss(50, dim=64).directions.detach()

    cosines = functional.normalize(directions) @ functional.normalize(directions).T
    assert (cosines - torch.eye(50)).abs().max() < 0.6
    assert directions.norm(dim=1).mean().item() == pytest.approx(0.2, rel=0.1)


def test_nobody_unlabeled_is_learned_from():
    loss, ids = made(), torch.tensor([1, -1, 3])
    rows = embeddings(3).requires_grad_()

    value = loss(rows, ids)
    value.backward()

    assert value.item() == pytest.approx(loss(rows[[0, 2]], ids[[0, 2]]).item(), rel=1e-6)
    assert rows.grad[0].any() and rows.grad[2].any()
    assert not rows.grad[1].any()


@pytest.mark.parametrize("count", [2, 0])
def test_without_anybody_labeled_the_loss_is_zero_and_everything_has_a_gradient_of_zero(count):
    loss, rows = made(), embeddings(count).requires_grad_()

    value = loss(rows, torch.full((count,), -1))
    value.backward()

    assert value == 0
    # Processes that average gradients need one of every parameter.
    assert loss.directions.grad is not None and not loss.directions.grad.any()
    assert not rows.grad.any()


def test_learning_turns_directions_to_the_people():
    loss, ids = made(scalar=16), torch.tensor([0, 1, 2, 3])
    people = functional.normalize(torch.eye(4, DIM) + 0.1, dim=1)
    learning = torch.optim.SGD(loss.parameters(), lr=0.5)
    first = loss(people, ids).item()

    for _ in range(30):
        learning.zero_grad()
        loss(people, ids).backward()
        learning.step()
        loss.update()

    assert loss(people, ids).item() < 0.5 * first
    nearest = functional.normalize(loss.directions) @ people.T
    assert nearest.argmax(dim=1).tolist() == [0, 1, 2, 3]


def test_the_processes_losses_average_to_that_of_the_joint_batch(monkeypatch):
    loss, rows, ids = made(), embeddings(5), torch.tensor([0, -1, 3, 2, 1])
    whole = loss(rows, ids).item()

    # Three labeled people in one process and one in the other.
    monkeypatch.setattr(cosine_softmax, "joint_count", lambda count: torch.tensor(2.0))
    parts = [loss(rows[part], ids[part]).item() for part in (slice(0, 4), slice(4, 5))]

    assert sum(parts) / 2 == pytest.approx(whole, rel=1e-5)


def test_what_is_saved_is_the_directions():
    loss, other = made(), CosineSoftmaxLoss(4, dim=DIM)
    rows, ids = embeddings(2), torch.tensor([1, 3])

    other.load_state_dict(loss.state_dict())

    assert list(loss.state_dict()) == ["directions"]
    assert other(rows, ids) == loss(rows, ids)


@pytest.mark.parametrize("reid_loss", REID_LOSSES)
def test_a_network_with_any_identity_loss_trains_and_detects(reid_loss, picture):
    torch.manual_seed(0)
    network = build_network(
        "nae", "efficientnet_lite0", num_ids=3, queue_size=4, embedding_dim=16, min_size=64,
        max_size=96, regions_per_image=8, reid_loss=reid_loss,
    )  # fmt: skip
    target = {"boxes": torch.tensor([[8.0, 8, 30, 60]]), "person_ids": torch.tensor([1])}
    target["ignored"] = torch.zeros(0, 4)
    images = torch.rand(2, 3, 64, 96, generator=torch.Generator().manual_seed(1))

    losses = network.train()(images, [(64, 96)] * 2, [target, target])
    losses["loss_reid"].backward()
    network.roi_heads.reid_loss.update()

    assert isinstance(network.roi_heads.reid_loss, REID_LOSSES[reid_loss])
    assert all(loss.isfinite() for loss in losses.values())
    found = network.eval().detect(picture(0))
    assert found.embeddings.shape == (len(found.boxes), 16)


def test_a_network_that_learns_only_to_tell_people_apart_changes_nothing_else():
    torch.manual_seed(0)
    network = build_network(
        "nae", "efficientnet_lite0", num_ids=3, queue_size=0, embedding_dim=16, min_size=64,
        max_size=96, reid_loss="cosine_softmax",
    ).train()  # fmt: skip
    boxes = torch.tensor([[8.0, 8, 30, 60], [40, 4, 70, 60]])
    targets = [{"boxes": boxes, "person_ids": torch.tensor([1, 2])}] * 2
    images = torch.rand(2, 3, 64, 96, generator=torch.Generator().manual_seed(1))

    network.learn_only_reid()
    losses = network(images, [(64, 96)] * 2, targets)
    losses["loss_reid"].backward()

    assert list(losses) == ["loss_reid"]
    learning = {name for name, p in network.named_parameters() if p.grad is not None}
    still = ("rpn.", "roi_heads.box_regressor.", "roi_heads.embedding_head.rescaler.")
    assert not any(name.startswith(still) for name in learning)
    assert learning == {name for name, p in network.named_parameters() if p.requires_grad}
    for part in ("backbone.", "roi_heads.box_head.", "roi_heads.embedding_head.projectors."):
        assert any(name.startswith(part) for name in learning)
    assert "roi_heads.reid_loss.directions" in learning
