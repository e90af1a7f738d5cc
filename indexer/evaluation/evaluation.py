"""How well people are found again in a gallery, measured where it is known who is where.

That comes from labels or from a protocol. The figures are those of models.evaluation, with stored
detections in the place of a detector's.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from indexer.errors import NothingToEvaluateError
from indexer.records import Crowd
from models.datasets.scene import UNLABELED, Query, Scene, SceneDataset
from models.evaluation.bootstrap import Estimate
from models.evaluation.breakdown import share_over_scenes
from models.evaluation.detection import judge
from models.evaluation.figures import SearchFigures, search_figures
from models.evaluation.search import (
    SearchResult,
    evaluate_scenes,
    evaluate_search,
    search_result,
)

AT_ONCE = 2**24
"""Places in galleries that are in memory at a time: 128 MiB."""

Progress = Callable[[int, int], None]


@dataclass(frozen=True, eq=False)
class Question:
    """A query, and where the person is.

    Attributes:
        scene: its place in a crowd: the scene that shows the person; it is not searched.
        box: [4] float32, the person there.
        embedding: [D] float32, unit length.
        person: who it is, a name.
        holds: where the person is: scenes, by their places in a crowd, and the box [4] float32 in
            each. Either all questions have boxes, or none has.
    """

    scene: int
    box: NDArray[np.float32]
    embedding: NDArray[np.float32]
    person: str
    holds: Sequence[tuple[int, NDArray[np.float32] | None]]


@dataclass(frozen=True, eq=False)
class Evaluation:
    """What the questions showed.

    Attributes:
        result: per question, in their order.
        figures: of all questions.
        cameras: figures per camera of the queries, None for images without one; empty when all are
            of one camera.
        recall: the share of the known boxes that a stored detection overlaps enough, with a
            bootstrap interval over scenes; None where boxes are not known.
        known_people: how many known boxes there are.
    """

    result: SearchResult
    figures: SearchFigures
    cameras: tuple[tuple[str | None, SearchFigures], ...]
    recall: Estimate | None
    known_people: int


def questions_of_labels(crowd: Crowd) -> list[Question]:
    """One question for each labelled detection: where else are the others of its label?

    Raises:
        NothingToEvaluateError: no label is in two scenes.
    """
    where: dict[str, list[tuple[int, int]]] = {}
    for scene, labels in enumerate(crowd.labels):
        for place, label in enumerate(labels):
            if label is not None:
                where.setdefault(label, []).append((scene, place))
    questions = []
    for scene, labels in enumerate(crowd.labels):
        people = crowd.people[scene]
        for place, label in enumerate(labels):
            holds = [
                (other, crowd.people[other].boxes[its])
                for other, its in where.get(label or "", ())
                if other != scene
            ]
            if label is not None and holds:
                questions.append(
                    Question(scene, people.boxes[place], people.embeddings[place], label, holds)
                )
    if not questions:
        raise NothingToEvaluateError("No label is in two images or more.")
    return questions


def evaluate(
    crowd: Crowd,
    questions: Sequence[Question],
    *,
    searched: NDArray[np.int64] | None = None,
    boxes_known: bool = False,
    progress: Progress = lambda done, total: None,
) -> Evaluation:
    """Answer all questions from what is stored, and measure how well.

    Args:
        questions: at least one.
        searched: [S], places in the crowd of the scenes to search; None is all. A question's own
            scene is never searched.
        boxes_known: whether the boxes come from elsewhere than the stored detections, so that the
            share that was detected can be measured.
        progress: called with how many questions are done, of how many.
    """
    searched = np.arange(len(crowd.scenes)) if searched is None else np.sort(searched)
    with_boxes = questions[0].holds[0][1] is not None
    scenes, places = _annotated(crowd, questions if with_boxes else [])
    at_once = max(1, AT_ONCE // max(1, len(searched)))
    results = []
    for start in range(0, len(questions), at_once):
        progress(start, len(questions))
        some = questions[start : start + at_once]
        galleries = [searched[searched != one.scene] for one in some]
        embeddings = np.stack([one.embedding for one in some])
        if with_boxes:
            queries = [
                _query(one, gallery, places) for one, gallery in zip(some, galleries, strict=True)
            ]
            dataset = SceneDataset("gallery", scenes, tuple(queries), "", (0,))
            result = evaluate_search(dataset, crowd.people, embeddings)
        else:
            truths = [np.unique([scene for scene, _ in one.holds]) for one in some]
            result = evaluate_scenes(crowd.people, embeddings, galleries, truths)
        assert result is not None
        results.append(result)
    progress(len(questions), len(questions))
    precisions = np.concatenate([one.average_precisions for one in results])
    first_right = np.concatenate([one.first_right for one in results])
    people = np.unique([one.person for one in questions], return_inverse=True)[1]
    every = search_result(precisions, first_right)
    recall, known = _recall(crowd, scenes) if boxes_known else (None, 0)
    return Evaluation(
        result=every,
        figures=search_figures(every, people),
        cameras=tuple(_by_camera(crowd, questions, every, people)),
        recall=recall,
        known_people=known,
    )


def _annotated(
    crowd: Crowd, questions: Sequence[Question]
) -> tuple[tuple[Scene, ...], dict[tuple[int, bytes], int]]:
    """Every scene with the boxes that questions name in it; where in it each box stands."""
    boxes: list[list[NDArray[np.float32]]] = [[] for _ in crowd.scenes]
    places: dict[tuple[int, bytes], int] = {}
    for one in questions:
        for scene, box in one.holds:
            assert box is not None
            if places.setdefault((scene, box.tobytes()), len(boxes[scene])) == len(boxes[scene]):
                boxes[scene].append(box)
    return (
        tuple(
            Scene(
                name=stored.id,
                path=Path(stored.id),
                width=stored.width,
                height=stored.height,
                boxes=np.array(own, np.float32).reshape(-1, 4),
                person_ids=np.full(len(own), UNLABELED),
                ignore=np.zeros(len(own), np.bool_),
                camera=stored.camera_id or "",
                exhaustive=False,
            )
            for stored, own in zip(crowd.scenes, boxes, strict=True)
        ),
        places,
    )


def _query(
    one: Question, gallery: NDArray[np.int64], places: dict[tuple[int, bytes], int]
) -> Query:
    truth = []
    for scene, box in one.holds:
        assert box is not None
        truth.append((int(np.searchsorted(gallery, scene)), places[scene, box.tobytes()]))
    return Query(one.scene, one.box, 0, gallery, np.array(truth, np.int64))


def _recall(crowd: Crowd, scenes: Sequence[Scene]) -> tuple[Estimate | None, int]:
    """Which of the boxes are found; those too small to be counted are not counted."""
    judged = [
        judge(replace(scene, exhaustive=True), people)
        for scene, people in zip(scenes, crowd.people, strict=True)
        if len(scene.boxes)
    ]
    people = np.array([len(own.people) for own in judged if own is not None])
    found = np.array([np.count_nonzero(own.found) for own in judged if own is not None])
    if not people.sum():
        return None, 0
    return share_over_scenes(found[people > 0], people[people > 0]), int(people.sum())


def _by_camera(
    crowd: Crowd, questions: Sequence[Question], result: SearchResult, people: NDArray[np.int64]
) -> Iterator[tuple[str | None, SearchFigures]]:
    cameras = [crowd.scenes[one.scene].camera_id for one in questions]
    names = sorted(set(cameras), key=lambda name: (name is None, name))
    for name in names if len(names) > 1 else ():
        own = np.array([number for number, camera in enumerate(cameras) if camera == name])
        part = search_result(result.average_precisions[own], result.first_right[own])
        yield name, search_figures(part, people[own])
