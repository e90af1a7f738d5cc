"""A gallery and a dict are given the same to do, in random order; they must agree.

And 1,000 random searches of random galleries, each compared with plain numpy.
"""

import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import seed as seeded
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from hypothesis.stateful import run_state_machine_as_test as run

from indexer.errors import DetectionNotFoundError, ExternalIdConflictError, SceneNotFoundError
from indexer.records import SceneFilter
from indexer.snapshots import remove_snapshot, restore_snapshot
from indexer.tests.scenery import new_scene, open_gallery, people, unit
from models.detections import Detections

pytestmark = [pytest.mark.slow, pytest.mark.timeout(14_400)]

DIM = 8
NAMES = st.sampled_from("abcdefgh")
CAMERAS = st.sampled_from([None, "1", "2"])


class Life(RuleBasedStateMachine):
    """Add, add again, remove, change, compact, snapshot, restore, reopen: as a dict would."""

    def __init__(self):
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.directory = Path(self.folder.name)
        self.gallery = open_gallery(self.directory, dim=DIM)
        self.held = {}  # name to [scene id, camera, {detection id: its embedding and score}]
        self.saved = None  # a snapshot's id, and the dict at its time
        self.gone = set()

    def teardown(self):
        self.gallery.close()
        self.folder.cleanup()

    @rule(name=NAMES, camera=CAMERAS, count=st.integers(0, 3), like=st.integers(0, 5))
    def add(self, name, camera, count, like):
        found = people(count, dim=DIM, seed=like)  # few kinds of people: many ties
        added = self.gallery.add(new_scene(name, external_id=name, camera_id=camera), found)
        assert added.created == (name not in self.held)
        if added.created:
            rows = zip(added.scene.detections, found.embeddings, found.scores, strict=True)
            kept = {one.id: (vector, score) for one, vector, score in rows}
            self.held[name] = [added.scene.id, camera, kept]
        assert added.scene.id == self.held[name][0]

    @rule(name=NAMES, other=NAMES)
    def add_under_a_name_that_is_taken(self, name, other):
        if name in self.held:
            with pytest.raises(ExternalIdConflictError):
                self.gallery.add(
                    new_scene(f"another {other}", external_id=name), people(1, dim=DIM)
                )

    @rule(name=NAMES)
    def remove(self, name):
        if name in self.held:
            id, _, kept = self.held.pop(name)
            self.gallery.remove(id)
            self.gone |= {id, *kept}

    @precondition(lambda self: any(kept for _, _, kept in self.held.values()))
    @rule(data=st.data())
    def remove_detection(self, data):
        every = sorted((id, name) for name, held in self.held.items() for id in held[2])
        id, name = data.draw(st.sampled_from(every))
        self.gallery.remove_detection(id)
        del self.held[name][2][id]
        self.gone.add(id)

    @rule(name=NAMES, camera=CAMERAS)
    def patch(self, name, camera):
        if name in self.held:
            self.gallery.patch(self.held[name][0], {"camera_id": camera})
            self.held[name][1] = camera

    @rule()
    def compact(self):
        self.gallery.compact()

    @rule()
    def rebuild(self):
        self.gallery.rebuild()

    @rule()
    def reopen(self):
        self.gallery.close()
        self.gallery = open_gallery(self.directory, dim=DIM)

    @rule()
    def snapshot(self):
        if self.saved is not None:
            remove_snapshot(self.gallery.snapshots, self.saved[0])
        copy = {name: [id, camera, dict(kept)] for name, (id, camera, kept) in self.held.items()}
        self.saved = self.gallery.snapshot().id, copy

    @precondition(lambda self: self.saved is not None)
    @rule()
    def restore(self):
        self.gallery.close()
        restore_snapshot(self.directory / "snapshots" / self.saved[0], self.directory)
        self.held = {
            name: [id, camera, dict(kept)] for name, (id, camera, kept) in self.saved[1].items()
        }
        self.gone = set()  # what the snapshot holds is there again
        self.gallery = open_gallery(self.directory, dim=DIM)

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def erase(self, data):
        name = data.draw(st.sampled_from(sorted(self.held)))
        id, _, kept = self.held.pop(name)
        self.gallery.finish_erasure(self.gallery.erase(scene_ids=[id]).id)
        self.gone |= {id, *kept}
        if self.saved is not None:  # erasures outlive restores
            self.saved[1].pop(name, None) if self._saved_id(name) == id else None

    def _saved_id(self, name):
        return self.saved[1].get(name, [None])[0]

    @invariant()
    def lists_agree(self):
        scenes = {scene.external_id: scene for scene in self.gallery.scenes().scenes}
        assert set(scenes) == set(self.held)
        for name, (id, camera, kept) in self.held.items():
            scene = scenes[name]
            assert (scene.id, scene.camera_id) == (id, camera)
            assert {one.id for one in scene.detections} == set(kept)

    @invariant()
    def searches_agree(self):
        query = people(1, dim=DIM, seed=3).embeddings[0]
        for camera in (None, "1"):
            kept = [
                (id, vector, score)
                for _, where, held in self.held.values()
                if camera in (None, where)
                for id, (vector, score) in held.items()
            ]
            vectors = np.array([vector for _, vector, _ in kept], float).reshape(-1, DIM)
            scores = np.array([score for _, _, score in kept], float)
            weighted = np.round(scores * (vectors @ query.astype(float)), 6) + 0.0
            best = sorted(zip((-weighted).tolist(), [id for id, _, _ in kept], strict=True))[:5]
            meant = SceneFilter() if camera is None else SceneFilter(camera_in=(camera,))
            hits = self.gallery.search(query, k=5, filter=meant)
            assert [hit.detection.id for hit in hits] == [id for _, id in best]
            assert np.allclose([hit.score for hit in hits], [-one for one, _ in best], atol=2e-6)

    @invariant()
    def what_went_is_gone(self):
        for id in sorted(self.gone)[-3:]:
            error = SceneNotFoundError if id.startswith("img_") else DetectionNotFoundError
            with pytest.raises(error):
                (self.gallery.get if id.startswith("img_") else self.gallery.detection)(id)


@pytest.mark.parametrize("lives", [100, pytest.param(20_000, marks=pytest.mark.soak)])
def test_a_gallery_does_what_a_dict_would(lives, seed):
    machine = seeded(seed)(Life)
    run(
        machine,
        settings=settings(
            max_examples=lives,
            stateful_step_count=20,
            database=None,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )


@pytest.mark.parametrize("cases", [1000, pytest.param(100_000, marks=pytest.mark.soak)])
def test_a_thousand_random_searches_answer_as_numpy_does(tmp_path, cases, seed):
    random = np.random.default_rng(seed)
    done = 0
    for size in (0, 1, 2, 60, 400):
        with open_gallery(tmp_path / str(size), dim=DIM) as gallery:
            rows = filled(gallery, size, random)
            for _ in range(cases // 5):
                compare(gallery, rows, random)
                done += 1
    assert done == cases


def filled(gallery, size, random):
    """Fill a gallery with so many people; some of them alike, so that scores tie."""
    start = datetime(2026, 1, 1, tzinfo=UTC)
    alike = unit(random.standard_normal((5, DIM), np.float32))
    left, number, stored = size, 0, []
    while left:
        count = min(left, int(random.integers(0, 5)))
        left, number = left - count, number + 1
        vectors = unit(random.standard_normal((count, DIM), np.float32))
        same = random.random(count) < 0.5
        vectors[same] = alike[random.integers(0, 5, same.sum())]
        scores = random.integers(0, 11, count).astype(np.float32) / np.float32(10)
        boxes = np.tile(np.array([[1, 1, 9, 9]], np.float32), (count, 1))
        found = Detections(boxes, np.sort(scores)[::-1].copy(), vectors)
        scene = new_scene(
            str(number),
            camera_id=random.choice([None, "1", "2", "3"]),
            captured_at=start + timedelta(hours=int(random.integers(0, 100))),
            tags=tuple(tag for tag in "abc" if random.random() < 0.3),
        )
        stored.append((gallery.add(scene, found).scene, vectors))
    for scene, _ in stored[::9]:
        gallery.remove(scene.id)
    return [
        (scene, one, vector)
        for number, (scene, vectors) in enumerate(stored)
        if number % 9
        for one, vector in zip(scene.detections, vectors.astype(float), strict=True)
    ]


def compare(gallery, rows, random):
    start = datetime(2026, 1, 1, tzinfo=UTC)
    known = rows and random.random() < 0.7
    query = rows[random.integers(len(rows))][2] if known else random.standard_normal(DIM)
    query = unit(query.astype(np.float32))
    k = int(random.choice([1, 2, 10, 100, 1000]))
    by_image = random.random() < 0.3
    least = float(random.choice([-1, 0, 0.2, 0.5]))
    sure = float(random.choice([0, 0.3, 0.8]))
    maybe = lambda value, none: value if random.random() < 0.4 else none  # noqa: E731
    meant = SceneFilter(
        camera_in=maybe(tuple(random.choice(["1", "2", "x"], random.integers(0, 3))), None),
        camera_not_in=maybe(("1",), ()),
        captured_from=maybe(start + timedelta(hours=int(random.integers(0, 100))), None),
        captured_to=maybe(start + timedelta(hours=int(random.integers(0, 100))), None),
        tags_all=maybe(("a",), ()),
        tags_any=maybe(("b", "c"), ()),
        tags_none=maybe(("c",), ()),
    )

    def is_meant(scene):
        tags, camera, at = set(scene.tags), scene.camera_id, scene.captured_at
        return (
            (meant.camera_in is None or camera in meant.camera_in)
            and camera not in meant.camera_not_in
            and (meant.captured_from is None or at >= meant.captured_from)
            and (meant.captured_to is None or at < meant.captured_to)
            and tags >= set(meant.tags_all)
            and (not meant.tags_any or tags & set(meant.tags_any))
            and not tags & set(meant.tags_none)
        )

    passing = [row for row in rows if is_meant(row[0]) and row[1].score >= np.float32(sure)]
    vectors = np.array([vector for _, _, vector in passing]).reshape(-1, DIM)
    scores = np.array([one.score for _, one, _ in passing])
    weighted = np.round(scores * (vectors @ query.astype(float)), 6) + 0.0
    best = sorted(
        (-score, one.id, scene.id)
        for score, (scene, one, _) in zip(weighted.tolist(), passing, strict=True)
        if score >= least
    )
    if by_image:
        first = {}
        for one in best:
            first.setdefault(one[2], one)
        best = list(first.values())

    hits = gallery.search(
        query,
        k=k,
        filter=meant,
        min_score=least,
        min_detection_score=sure,
        group_by="image" if by_image else "detection",
    )

    assert [hit.detection.id for hit in hits] == [one[1] for one in best[:k]]
    assert np.allclose([hit.score for hit in hits], [-one[0] for one in best[:k]], atol=1e-5)
