import copy
import io

import numpy as np
import pytest
import torch

from models.nn.oim import OimLoss

pytestmark = pytest.mark.torch

DIM = 6


def embeddings(count: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.nn.functional.normalize(torch.randn(count, DIM, generator=generator), dim=1)


def step(loss: OimLoss, rows: torch.Tensor, ids: list[int]) -> torch.Tensor:
    value = loss(rows, torch.tensor(ids))
    loss.update()
    return value


def test_the_loss_is_the_cross_entropy_over_table_and_queue():
    loss = OimLoss(3, dim=DIM, queue_size=2, scalar=10)
    step(loss, embeddings(5), [0, 1, 2, -1, -1])
    memory = torch.cat([loss.lookup_table, loss.circular_queue])
    rows = embeddings(3, seed=1)

    value = loss(rows, torch.tensor([2, -1, 0]))

    expected = [
        -torch.log_softmax(10 * memory @ rows[row], dim=0)[person]
        for row, person in ((0, 2), (2, 0))
    ]
    assert value.item() == pytest.approx(torch.stack(expected).mean().item(), rel=1e-6)


def test_the_memory_changes_only_at_the_update_and_takes_no_gradient():
    loss = OimLoss(3, dim=DIM, queue_size=2)
    step(loss, embeddings(3), [0, 1, 2])
    table = loss.lookup_table.clone()
    rows = embeddings(2, seed=1).requires_grad_()

    loss(rows, torch.tensor([1, -1])).backward()

    assert rows.grad[0].any()
    assert not rows.grad[1].any()
    assert torch.equal(loss.lookup_table, table)
    assert not loss.circular_queue.any()
    loss.update()
    assert not torch.equal(loss.lookup_table, table)
    assert torch.equal(loss.circular_queue[0], rows[1].detach())
    assert not list(loss.parameters())


def test_an_identity_seen_twice_in_a_batch_is_mixed_in_twice_in_order():
    loss = OimLoss(2, dim=DIM, queue_size=2, momentum=0.3)
    rows = embeddings(2)

    step(loss, rows, [1, 1])

    # The empty entry adds nothing to the first, whose length then becomes one.
    expected = 0.3 * rows[0] + 0.7 * rows[1]
    np.testing.assert_allclose(loss.lookup_table[1], expected / expected.norm(), rtol=1e-5)
    assert not loss.lookup_table[0].any()


def test_the_queue_wraps_and_forgets_the_oldest():
    loss = OimLoss(1, dim=DIM, queue_size=3)
    rows = embeddings(5)

    step(loss, rows[:2], [-1, -1])
    step(loss, rows[2:], [-1, -1, -1])

    assert torch.equal(loss.circular_queue, rows[[3, 4, 2]])
    assert loss.queue_head == 2


def test_without_anybody_named_the_loss_is_zero_and_the_queue_still_learns():
    loss = OimLoss(1, dim=DIM, queue_size=3)
    rows = embeddings(2).requires_grad_()

    value = loss(rows, torch.tensor([-1, -1]))
    value.backward()
    loss.update()

    assert value == 0
    assert not rows.grad.any()
    assert torch.equal(loss.circular_queue[:2], rows.detach())


def test_without_anybody_at_all_nothing_happens():
    loss = OimLoss(1, dim=DIM, queue_size=3)

    value = step(loss, torch.zeros(0, DIM, requires_grad=True), [])

    assert value == 0
    assert loss.queue_head == 0


def test_a_queue_of_no_length_remembers_nobody():
    loss = OimLoss(2, dim=DIM, queue_size=0)

    value = step(loss, embeddings(3), [0, -1, 1])

    assert torch.isfinite(value)
    assert loss.circular_queue.shape == (0, DIM)


def test_a_saved_loss_goes_on_exactly_as_one_that_was_never_saved():
    loss = OimLoss(3, dim=DIM, queue_size=3)
    step(loss, embeddings(5), [0, -1, 2, -1, 0])
    buffer = io.BytesIO()
    torch.save(loss.state_dict(), buffer)
    restored = OimLoss(3, dim=DIM, queue_size=3)

    buffer.seek(0)
    restored.load_state_dict(torch.load(buffer, weights_only=True))
    values = [
        [step(one, embeddings(4, seed), [1, -1, -1, 0]).item() for seed in range(1, 4)]
        for one in (copy.deepcopy(loss), restored)
    ]

    assert values[0] == values[1]
    assert restored.queue_head == (2 + 3 * 2) % 3
