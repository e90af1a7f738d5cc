"""The best hits of a search in another order."""

import numpy as np
import pytest

from indexer.search.rerank import by_context, by_neighbours
from indexer.tests.scenery import DIM, new_scene, open_gallery, unit
from models.datasets.scene import Query, Scene, SceneDataset
from models.detections import Detections
from models.evaluate import score
from models.evaluation.found import Found, in_company
from models.reranking.k_reciprocal import k_reciprocal


@pytest.fixture
def gallery(tmp_path):
    with open_gallery(tmp_path / "gallery") as opened:
        yield opened


def group(*looks, scores=None):
    """People side by side who look as given."""
    looks = np.array(looks, np.float32)
    boxes = [[50 * place, 0, 50 * place + 40, 100] for place in range(len(looks))]
    scores = np.ones(len(looks)) if scores is None else scores
    return Detections(np.array(boxes, np.float32), np.array(scores, np.float32), unit(looks))


def walks(gallery, scenes=12, persons=5, seed=0):
    """Scenes of three people each, of some that are there again and again."""
    random = np.random.default_rng(seed)
    centres = random.standard_normal((persons, DIM))
    for number in range(scenes):
        who = random.choice(persons, 3, replace=False)
        looks = centres[who] + 0.9 * random.standard_normal((3, DIM))
        gallery.add(new_scene(f"s{number}"), group(*looks, scores=random.uniform(0.5, 1, 3)))


def ids(hits, order):
    return [hits[place].detection.id for place in order]


def test_neighbours_put_hits_in_the_order_of_their_k_reciprocal_distance(gallery):
    walks(gallery)
    queries = [
        gallery.people.embedding(one.id) for one in gallery.scenes.page().scenes[0].detections[:2]
    ]
    hits = gallery.search(queries[0], k=30)
    crowd = gallery.people.everybody(scene_ids={hit.scene.id for hit in hits})
    own = np.stack([gallery.people.embedding(hit.detection.id) for hit in hits]).astype(float)
    for some in (queries[:1], queries):
        far = k_reciprocal(
            np.max([own @ query for query in some], axis=0),
            own @ own.T,
            np.array([hit.score for hit in hits]),
        )
        order = by_neighbours(hits, some, crowd)
        assert order == sorted(range(30), key=lambda place: (far[place], place))
        assert order != list(range(30))


def test_company_puts_hits_in_the_order_of_the_offline_evaluator(gallery):
    walks(gallery)
    scenes = gallery.scenes.page().scenes
    crowd = gallery.people.everybody(scene_ids=[one.id for one in scenes])
    asked = scenes[0].detections[0]
    query = gallery.people.embedding(asked.id)
    others = [one.id for one in scenes[1:]]
    hits = gallery.search(query, k=99, exclude_scene_ids=[scenes[0].id])
    company = in_company(query, np.array(asked.box), crowd.people[0])
    order = by_context(hits, [company], gallery.people.everybody(scene_ids=others), fusion="max")

    # The evaluator tells no order, but the rank of a right hit: asked for each hit in turn.
    found = Found(
        tuple(one.id for one in scenes),
        crowd.people,
        np.zeros(1, np.int64),
        np.array([asked.box], np.float32),
        query[None],
    )
    place_of = {id: (s, p) for s, own in enumerate(crowd.ids) for p, id in enumerate(own)}
    everywhere = np.arange(1, len(scenes))
    for rank, place in enumerate(order, 1):
        scene, box = place_of[hits[place].detection.id]
        truth = np.array([[scene - 1, box]])
        person = Query(0, np.array(asked.box, np.float32), 0, everywhere, truth)
        annotated = tuple(
            Scene(one.id, one.id, 200, 100, people.boxes, np.zeros(3, np.int64),
                  np.zeros(3, np.bool_), "")
            for one, people in zip(scenes, crowd.people, strict=True)
        )  # fmt: skip
        dataset = SceneDataset("stored", annotated, (person,), "", (0,))
        told = score(found, dataset, cbgm=(99, 3))["search"]["map"]
        assert told == pytest.approx(1 / rank), rank
    assert order != list(range(len(hits)))


def test_company_raises_the_person_whose_company_is_there(gallery):
    axes = np.eye(DIM)
    ada, bea = axes[0], axes[1]
    here = gallery.add(new_scene("here"), group(ada, bea)).scene
    gallery.add(new_scene("alone"), group(0.8 * ada + 0.6 * axes[2]))
    together = gallery.add(new_scene("together"), group(0.6 * ada + 0.8 * axes[3], bea)).scene
    hits = gallery.search(ada.astype(np.float32), k=9, exclude_scene_ids=[here.id])
    crowd = gallery.people.everybody(scene_ids={hit.scene.id for hit in hits})
    with_bea = in_company(ada.astype(np.float32), np.array(here.detections[0].box),
                          gallery.people.everybody(scene_ids=[here.id]).people[0])  # fmt: skip

    assert hits[0].scene.id != together.id
    assert hits[by_context(hits, [with_bea], crowd, fusion="max")[0]].scene.id == together.id
    alone = by_context(hits, [with_bea[:1]], crowd, fusion="max")
    assert alone == list(range(len(hits)))


def test_several_queries_count_by_the_best_or_by_their_mean(gallery):
    axes = np.eye(DIM, dtype=np.float32)
    ada, bea, cid = axes[:3]
    both, one = 0.5 * ada + 0.5 * bea, 0.9 * ada + 0.1 * cid
    gallery.add(new_scene("both"), group(both, scores=[0.9]))
    gallery.add(new_scene("one"), group(one, scores=[0.9]))
    hits = gallery.search(ada, k=2)
    crowd = gallery.people.everybody()
    companies = [ada[None], bea[None]]

    assert by_context(hits, companies, crowd, fusion="max") == [0, 1]
    assert by_context(hits, companies, crowd, fusion="mean") == [1, 0]


def test_equal_hits_keep_their_order(gallery):
    look = np.eye(DIM)[0]
    for number in range(6):
        gallery.add(new_scene(f"s{number}"), group(look))
    query = look.astype(np.float32)
    hits = gallery.search(query, k=6)
    crowd = gallery.people.everybody()

    assert by_neighbours(hits, [query], crowd) == list(range(6))
    assert by_context(hits, [query[None]], crowd, fusion="max") == list(range(6))


def test_hits_that_are_gone_meanwhile_are_left_out(gallery):
    walks(gallery, scenes=4)
    query = gallery.people.embedding(gallery.scenes.page().scenes[0].detections[0].id)
    hits = gallery.search(query, k=12)
    gallery.people.remove(hits[2].detection.id)
    gallery.remove(hits[0].scene.id)
    crowd = gallery.people.everybody(scene_ids={hit.scene.id for hit in hits})
    left = {id for own in crowd.ids for id in own}

    assert 0 < len(left) < 12
    for order in (
        by_neighbours(hits, [query], crowd),
        by_context(hits, [query[None]], crowd, fusion="max"),
    ):
        assert set(ids(hits, order)) == left
        assert len(order) == len(left)
    nobody = gallery.people.everybody(scene_ids=[])
    assert by_neighbours(hits, [query], nobody) == []
    assert by_context(hits, [query[None]], nobody, fusion="max") == []
