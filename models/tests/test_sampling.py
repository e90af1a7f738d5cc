import pytest
import torch

from models.nn.sampling import BalancedSampler, scene_seed

pytestmark = pytest.mark.torch

LABELS = torch.tensor([1.0] * 20 + [0.0] * 60 + [-1.0] * 20)


def test_positives_up_to_the_share_and_negatives_for_the_rest():
    sampler = BalancedSampler(16, 0.5)

    (positive,), (negative,) = sampler([LABELS], [None])

    assert positive.sum() == 8 and (LABELS[positive] == 1).all()
    assert negative.sum() == 8 and (LABELS[negative] == 0).all()


def test_where_positives_are_few_negatives_fill_up():
    few = torch.tensor([1.0] * 2 + [0.0] * 60)

    (positive,), (negative,) = BalancedSampler(16, 0.5)([few], [None])

    assert (positive.sum(), negative.sum()) == (2, 14)


def test_nothing_to_draw_from_draws_nothing():
    (positive,), (negative,) = BalancedSampler(16, 0.5)([torch.full((5,), -1.0)], [None])

    assert not positive.any() and not negative.any()


def test_a_scene_with_a_seed_draws_alike_in_any_company():
    sampler = BalancedSampler(16, 0.5)
    torch.manual_seed(0)

    alone, _ = sampler([LABELS], [5])
    torch.manual_seed(1)
    together, _ = sampler([LABELS.flip(0), LABELS], [9, 5])
    other, _ = sampler([LABELS], [6])

    assert torch.equal(alone[0], together[1])
    assert not torch.equal(alone[0], other[0])


def test_the_two_halves_of_a_network_draw_from_different_seeds():
    seeds = {scene_seed({"seed": seed}, part=part) for seed in range(5) for part in range(2)}

    assert len(seeds) == 10
    assert scene_seed({}, part=0) is None
