import numpy as np
import pytest
import torch

from models.nn.heads import HEADS, NaeHead

pytestmark = pytest.mark.torch


@pytest.fixture
def head() -> NaeHead:
    torch.manual_seed(0)
    head = NaeHead(6, 10, dim=8).eval()
    for name, parameter in head.named_parameters():
        torch.nn.init.normal_(parameter, mean=1.0 if name.startswith("rescaler") else 0.0)
    return head


def regions(count: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return (
        torch.randn(count, 6, 14, 14, generator=generator),
        torch.randn(count, 10, 7, 7, generator=generator),
    )


@torch.no_grad()
def test_an_embedding_has_unit_length_and_its_former_length_is_the_logit(head):
    trunk_map, head_map = regions(5)
    parts = [
        head.projectors["feat_res4"](trunk_map.flatten(2).max(dim=2).values),
        head.projectors["feat_res5"](head_map.flatten(2).max(dim=2).values),
    ]
    whole = torch.cat(parts, dim=1)

    embeddings, logits = head(trunk_map, head_map)

    norm = whole.norm(dim=1, keepdim=True)
    np.testing.assert_allclose(embeddings, whole / norm, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(logits, head.rescaler(norm)[:, 0], rtol=1e-5)
    assert logits.shape == (5,)


@torch.no_grad()
@pytest.mark.parametrize("count", [0, 1])
def test_no_region_and_one_region_are_described_like_several(head, count):
    trunk_map, head_map = regions(3)

    embeddings, logits = head(trunk_map[:count], head_map[:count])

    several, their_logits = head(trunk_map, head_map)
    np.testing.assert_allclose(embeddings, several[:count], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(logits, their_logits[:count], rtol=1e-5)


@torch.no_grad()
def test_a_region_is_described_alike_in_any_company(head):
    trunk_map, head_map = regions(6)

    embeddings, logits = head(trunk_map, head_map)
    alone = [head(trunk_map[i : i + 1], head_map[i : i + 1]) for i in range(6)]

    np.testing.assert_allclose(embeddings, torch.cat([e for e, _ in alone]), atol=1e-6)
    np.testing.assert_allclose(logits, torch.cat([v for _, v in alone]), rtol=1e-5)


def test_an_embedding_of_odd_length_is_shared_out_whole():
    embeddings, _ = NaeHead(6, 10, dim=7).eval()(*regions(2))

    assert embeddings.shape == (2, 7)


def test_the_nae_head_is_in_the_table():
    assert HEADS["nae"] is NaeHead
