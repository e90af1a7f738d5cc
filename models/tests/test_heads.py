import numpy as np
import pytest
import torch

from models.nn.heads import HEADS
from models.nn.nae_head import NaeHead
from models.nn.nae_plus_head import NaePlusHead, pixel_labels
from models.nn.oim_head import OimHead
from models.nn.sampling import SampledRegions

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


def test_an_nae_plus_embedding_is_the_mean_of_its_scored_unit_columns():
    torch.manual_seed(0)
    head = NaePlusHead(6, 10, dim=8).eval()
    for parameter in head.parameters():
        torch.nn.init.normal_(parameter)
    trunk_map, head_map = regions(2)

    with torch.no_grad():
        embeddings, logits = head(trunk_map, head_map)
        fine = head.projectors["feat_res4"](trunk_map)
        fine = torch.nn.functional.interpolate(fine, size=(7, 7), mode="bilinear")
        columns = torch.cat([fine, head.projectors["feat_res5"](head_map)], dim=1)

    assert logits.shape == (2, 7, 7)
    for region in range(2):
        total = torch.zeros(8)
        for y in range(7):
            for x in range(7):
                column = columns[region, :, y, x]
                weight = torch.sigmoid(logits[region, y, x])
                total += column / column.norm() * weight
        np.testing.assert_allclose(embeddings[region], total / 49, rtol=1e-4, atol=1e-6)


def test_the_best_region_of_a_scene_has_score_one_with_nae_plus():
    head = NaePlusHead(6, 10, dim=8)
    logits = torch.randn(5, 7, 7, generator=torch.Generator().manual_seed(0))
    raw = logits.sigmoid().mean(dim=(1, 2))

    scores = head.scores(logits)

    assert scores.max() == 1
    np.testing.assert_allclose(scores, raw / raw.max(), rtol=1e-6)
    assert head.scores(logits[:0]).shape == (0,)


def test_pixels_are_labelled_like_a_picture_of_the_person_resized():
    generator = torch.Generator().manual_seed(0)
    corners = torch.rand(50, 2, generator=generator) * 60
    boxes = torch.cat([corners, corners + 3 + torch.rand(50, 2, generator=generator) * 90], dim=1)
    people = boxes + torch.randn(50, 4, generator=generator) * 8

    labels = pixel_labels(boxes, people, (7, 5), published=False)

    for box, person, label in zip(boxes, people, labels, strict=True):
        width, height = (box[2:] - box[:2]).ceil().int().tolist()
        x1, y1 = (torch.maximum(box[:2], person[:2]) - box[:2]).floor().int().tolist()
        x2, y2 = (torch.minimum(box[2:], person[2:]) - box[:2]).ceil().int().tolist()
        picture = torch.zeros(1, 1, height, width)
        if x2 >= 0 and y2 >= 0:
            picture[:, :, y1 : y2 + 1, x1 : x2 + 1] = 1
        resized = torch.nn.functional.interpolate(picture, size=(7, 5), mode="bilinear")
        np.testing.assert_allclose(label, resized[0, 0], atol=1e-5)


@pytest.mark.parametrize("published", [False, True])
def test_background_has_no_person_pixels_unless_labelled_as_published(published):
    head = NaePlusHead(6, 10, dim=8, published_labels=published)
    boxes = torch.tensor([[0.0, 0, 20, 40], [100, 100, 120, 140]])
    sampled = SampledRegions(
        boxes,
        is_person=torch.tensor([True, False]),
        person_ids=torch.tensor([0, -1]),
        matched=torch.tensor([[0.0, 0, 20, 40], [95, 0, 130, 200]]),
    )
    sure = torch.full((2, 7, 7), 20.0)
    sure[1] = -20.0

    loss = head.detection_loss(sure, [sampled])

    assert (loss > 1) == published


def test_the_baseline_scores_with_a_softmax_and_embeds_at_unit_length():
    torch.manual_seed(0)
    head = OimHead(6, 10, dim=8).eval()
    for parameter in head.parameters():
        torch.nn.init.normal_(parameter)
    trunk_map, head_map = regions(3)

    with torch.no_grad():
        embeddings, logits = head(trunk_map, head_map)
        classes = head.classifier(head_map.amax(dim=(2, 3)))

    np.testing.assert_allclose(head.scores(logits), classes.softmax(dim=1)[:, 1], rtol=1e-5)
    np.testing.assert_allclose(embeddings.norm(dim=1), torch.ones(3), rtol=1e-5)


@pytest.mark.parametrize("name", HEADS)
def test_every_head_in_the_table_describes_regions(name):
    head = HEADS[name](6, 10, dim=8).eval()
    trunk_map, head_map = regions(3)

    with torch.no_grad():
        embeddings, logits = head(trunk_map, head_map)

    assert embeddings.shape == (3, 8)
    assert head.scores(logits).shape == (3,)
    assert head.pool(head_map).shape == (3, 10)
