"""A gallery and a dict are given the same to do, in random order; they must agree.

And 1,000 random searches of random galleries, each compared with plain numpy.
"""

import tempfile
from copy import deepcopy
from dataclasses import dataclass, field
from datetime import UTC, datetime, time, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import seed as seeded
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from hypothesis.stateful import run_state_machine_as_test as run

from indexer.errors import (
    DetectionGoneError,
    DetectionNotFoundError,
    ExternalIdConflictError,
    LabelNotFoundError,
    SceneNotFoundError,
)
from indexer.gallery.gallery import Gallery
from indexer.gallery.restoring import restore_snapshot
from indexer.gallery.snapshots import remove_snapshot
from indexer.records import GalleryModel, SceneFilter, TimeOfDay
from indexer.tests.scenery import new_scene, open_gallery, people, unit
from models.detections import Detections

pytestmark = [pytest.mark.slow, pytest.mark.timeout(14_400)]

DIM = 8
MEMORY = Path("/dev/shm")  # what a disk keeps is proven elsewhere; here it would take most time
NAMES = st.sampled_from("abcdefgh")
CAMERAS = st.sampled_from([None, "1", "2"])
MODELS = {
    "old": GalleryModel("stub", "5" * 64, DIM),
    "new": GalleryModel("other", "6" * 64, DIM - 2),
}


@dataclass
class Held:
    """What is known of a scene.

    A model sees people by key: the place of one whom the sender's detections name, or "further".

    Attributes:
        found: of which both models see most.
        seen_by: the models whose generations have the scene.
        ids: of people by key, once they were shown; both models' detections have the same.
        labels: by key.
        away: keys of people who were deleted.
    """

    id: str
    camera: str | None
    found: Detections
    seen_by: set[str]
    ids: dict = field(default_factory=dict)
    labels: dict = field(default_factory=dict)
    away: set = field(default_factory=set)

    def seen(self, model):
        """People by key, as a model's generation has them: box, score, embedding."""
        people = as_seen(self.found, model) if model in self.seen_by else {}
        return {key: one for key, one in people.items() if key not in self.away}

    def only(self, model):
        """Ids of whom only this model sees, by key."""
        (other,) = {"old", "new"} - {model}
        alone = set(self.seen(model)) - set(self.seen(other))
        return {key: id for key, id in self.ids.items() if key in alone}


def as_seen(found, model):
    """The new model sees one person of three not at all, one further, and all of them otherwise."""
    people = zip(found.boxes, found.scores, found.embeddings, strict=True)
    if model == "old":
        return dict(enumerate(people))
    seen = {
        key: (box, score / 2, unit(embedding[::-1][: MODELS["new"].embedding_dim]))
        for key, (box, score, embedding) in enumerate(people)
        if key != 2
    }
    one = np.eye(MODELS["new"].embedding_dim, dtype=np.float32)[0]
    return seen | {"further": (np.float32([200, 200, 300, 300]), np.float32(0.3), one)}


def detections_of(people, model):
    dim = MODELS[model].embedding_dim
    boxes, scores, vectors = zip(*people.values(), strict=True) if people else ([], [], [])
    return Detections(
        np.array(boxes, np.float32).reshape(-1, 4),
        np.array(scores, np.float32),
        np.array(vectors, np.float32).reshape(-1, dim),
    )


class Life(RuleBasedStateMachine):
    """Add, add again, remove, change, label, compact, snapshot, restore, reopen, change the model
    and change it back: as a dict would."""

    def __init__(self):
        super().__init__()
        self.folder = tempfile.TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None)
        self.directory = Path(self.folder.name)
        self.gallery = open_gallery(self.directory, dim=DIM)
        self.held = {}  # by name
        self.states = {"old": "active"}  # of the generations, by model
        self.saved = None  # a snapshot's id, and the dicts at its time
        self.gone = set()

    def teardown(self):
        self.gallery.close()
        self.folder.cleanup()

    @property
    def active(self):
        (model,) = (model for model, state in self.states.items() if state == "active")
        return model

    @property
    def other(self):
        (model,) = {"old", "new"} - {self.active}
        return model

    def generation(self, model):
        (id,) = (
            one.generation.id
            for one in self.gallery.generations.all()
            if one.generation.model == MODELS[model]
        )
        return id

    def shown(self):
        """The ids of all whom the active model sees: name and key by id."""
        return {
            held.ids[key]: (name, key)
            for name, held in self.held.items()
            for key in held.seen(self.active)
        }

    @rule(
        name=NAMES,
        camera=CAMERAS,
        count=st.integers(0, 3),
        like=st.integers(0, 5),
        further=st.booleans(),
    )
    def add(self, name, camera, count, like, further):
        found = people(count, dim=DIM, seed=like)  # few kinds of people: many ties
        seen = {model: detections_of(as_seen(found, model), model) for model in MODELS}
        both = further and self.states.get(self.other) == "building"
        added = self.gallery.add(
            new_scene(name, external_id=name, camera_id=camera),
            seen[self.active],
            further={self.generation(self.other): seen[self.other]} if both else {},
        )
        assert added.created == (name not in self.held)
        if added.created:
            seen_by = {self.active, self.other} if both else {self.active}
            self.held[name] = Held(added.scene.id, camera, found, seen_by)
        assert added.scene.id == self.held[name].id

    @rule(name=NAMES, other=NAMES)
    def add_under_a_name_that_is_taken(self, name, other):
        if name in self.held:
            one = detections_of({0: as_seen(people(1, dim=DIM), self.active)[0]}, self.active)
            with pytest.raises(ExternalIdConflictError):
                self.gallery.add(new_scene(f"another {other}", external_id=name), one)

    @rule(name=NAMES)
    def remove(self, name):
        if name in self.held:
            held = self.held.pop(name)
            self.gallery.remove(held.id)
            self.gone |= {held.id, *held.ids.values()}

    @precondition(lambda self: self.shown())
    @rule(data=st.data())
    def remove_detection(self, data):
        id, (name, key) = data.draw(st.sampled_from(sorted(self.shown().items(), key=str)))
        self.gallery.people.remove(id)
        held = self.held[name]
        held.away.add(key)
        held.labels.pop(key, None)
        self.gone.add(held.ids.pop(key))

    @rule(name=NAMES, camera=CAMERAS)
    def patch(self, name, camera):
        if name in self.held:
            self.gallery.scenes.patch(self.held[name].id, {"camera_id": camera})
            self.held[name].camera = camera

    @precondition(lambda self: self.shown())
    @rule(data=st.data(), label=st.sampled_from(["ada", "bea", None]))
    def label(self, data, label):
        id, (name, key) = data.draw(st.sampled_from(sorted(self.shown().items(), key=str)))
        labels = self.held[name].labels
        if label is not None:
            assert self.gallery.people.label(id, label).label == label
            labels[key] = label
        elif key in labels:
            self.gallery.people.remove_label(id)
            del labels[key]
        else:
            with pytest.raises(LabelNotFoundError):
                self.gallery.people.remove_label(id)

    @rule()
    def begin_generation(self):
        self.gallery.generations.begin(MODELS[self.other])
        self.states[self.other] = "building"

    @precondition(lambda self: self.other in self.states)
    @rule(at_most=st.integers(1, 9))
    def index_some(self, at_most):
        generation = self.generation(self.other)
        for id in self.gallery.generations.lacking(generation, limit=at_most).values():
            (held,) = (one for one in self.held.values() if one.id == id)
            assert self.other not in held.seen_by
            seen = detections_of(as_seen(held.found, self.other), self.other)
            assert self.gallery.generations.add_people(generation, id, seen)
            held.seen_by.add(self.other)

    @precondition(lambda self: self.other in self.states)
    @rule()
    def activate(self):
        whole = all(self.other in held.seen_by for held in self.held.values())
        assert self.gallery.generations.activate(self.generation(self.other)) == whole
        if whole:
            self.states = {self.other: "active", self.active: "kept"}

    @precondition(lambda self: self.other in self.states)
    @rule()
    def delete_generation(self):
        self.gallery.generations.delete(self.generation(self.other))
        del self.states[self.other]
        for held in self.held.values():
            for key, id in held.only(self.other).items():
                self.gone.add(id)
                del held.ids[key]
                held.labels.pop(key, None)
            held.seen_by.discard(self.other)

    @rule()
    def compact(self):
        self.gallery.upkeep.compact()

    @rule()
    def rebuild(self):
        self.gallery.index.rebuild()

    @rule()
    def reopen(self):
        self.gallery.close()
        self.gallery = Gallery.reopen(self.directory)

    @rule()
    def snapshot(self):
        if self.saved is not None:
            remove_snapshot(self.gallery.snapshots.directory, self.saved[0])
        self.saved = self.gallery.snapshots.make().id, deepcopy(self.held), dict(self.states)

    @precondition(lambda self: self.saved is not None)
    @rule()
    def restore(self):
        self.gallery.close()
        restore_snapshot(self.directory / "snapshots" / self.saved[0], self.directory)
        self.held, self.states = deepcopy(self.saved[1]), dict(self.saved[2])
        self.gone = set()  # what the snapshot holds is there again
        self.gallery = Gallery.reopen(self.directory)

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def erase(self, data):
        name = data.draw(st.sampled_from(sorted(self.held)))
        held = self.held.pop(name)
        self.gallery.erasures.finish(self.gallery.erasures.begin(scene_ids=[held.id]).id)
        self.gone |= {held.id, *held.ids.values()}
        if self.saved is not None:  # erasures outlive restores
            saved = self.saved[1]
            if name in saved and saved[name].id == held.id:
                del saved[name]

    @invariant()
    def lists_agree(self):
        scenes = {scene.external_id: scene for scene in self.gallery.scenes.page().scenes}
        assert set(scenes) == set(self.held)
        for name, held in self.held.items():
            scene, seen = scenes[name], held.seen(self.active)
            assert (scene.id, scene.camera_id) == (held.id, held.camera)
            key_of = {tuple(box.tolist()): key for key, (box, _, _) in seen.items()}
            shown = {key_of[one.box]: one for one in scene.detections}
            assert set(shown) == set(seen)
            for key, one in shown.items():
                assert held.ids.setdefault(key, one.id) == one.id
                assert one.id not in self.gone
                assert one.label == held.labels.get(key)

    @invariant()
    def generations_agree(self):
        counted = {
            one.generation.model: (one.generation.state, one.scenes, one.detections)
            for one in self.gallery.generations.all()
        }
        assert counted == {
            MODELS[model]: (
                state,
                sum(model in held.seen_by for held in self.held.values()),
                sum(len(held.seen(model)) for held in self.held.values()),
            )
            for model, state in self.states.items()
        }

    @invariant()
    def searches_agree(self):
        query = people(1, dim=MODELS[self.active].embedding_dim, seed=3).embeddings[0]
        for camera in (None, "1"):
            kept = [
                (held.ids[key], vector, score)
                for held in self.held.values()
                if camera in (None, held.camera)
                for key, (_, score, vector) in held.seen(self.active).items()
            ]
            vectors = np.array([vector for _, vector, _ in kept], float).reshape(-1, len(query))
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
                (self.gallery.get if id.startswith("img_") else self.gallery.people.get)(id)
        alone = [id for held in self.held.values() for id in held.only(self.other).values()]
        for id in alone[-3:]:
            with pytest.raises(DetectionGoneError):
                self.gallery.people.get(id)


@pytest.mark.parametrize("lives", [60, pytest.param(20_000, marks=pytest.mark.soak)])
def test_a_gallery_does_what_a_dict_would(lives, seed):
    machine = seeded(seed)(Life)
    run(
        machine,
        settings=settings(
            max_examples=lives,
            stateful_step_count=30,
            database=None,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )


@pytest.mark.parametrize("cases", [250, pytest.param(100_000, marks=pytest.mark.soak)])
def test_random_searches_answer_as_numpy_does(tmp_path, cases, seed):
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


def some_hours(random):
    first, after = random.choice(24, 2, replace=False).tolist()
    zone = str(random.choice(["UTC", "Asia/Kolkata", "America/New_York"]))
    return TimeOfDay(time(first, 30), time(after), zone)


def is_within(at, hours):
    shown = at.astimezone(ZoneInfo(hours.zone)).time()
    if hours.start < hours.end:
        return hours.start <= shown < hours.end
    return shown >= hours.start or shown < hours.end


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
        time_of_day=maybe(some_hours(random), None),
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
            and (meant.time_of_day is None or is_within(at, meant.time_of_day))
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
