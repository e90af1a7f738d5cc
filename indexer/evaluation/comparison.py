"""Is another model as good? The same questions to two generations, about labelled people.

Each labelled person whose label is in another scene, too, is a query for the other scenes. Boxes
are those of the generation that has the detection, of the first where both have it. Only labelled
people are searched: nobody knows who the others are. A person whom a generation does not see is
not found in it, and as a query finds nothing, so a model gains nothing by not seeing people.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from indexer.errors import TooFewLabelsError
from indexer.evaluation.evaluation import Question, evaluate
from indexer.records import Crowd
from models.detections import Detections

MIN_QUESTIONS = 20
"""With fewer, finding one more person changes mAP by more than another model does."""


@dataclass(frozen=True)
class Comparison:
    """Search mAP of two generations on the same questions."""

    questions: int
    map_before: float
    map_after: float

    @property
    def ratio(self) -> float:
        """map_after ÷ map_before; 1 where both are 0."""
        if self.map_before:
            return self.map_after / self.map_before
        return float("inf") if self.map_after else 1.0


@dataclass(frozen=True, eq=False)
class _Known:
    """Somebody who is labelled: the id of the scene, the box [4] there."""

    scene: str
    box: NDArray[np.float32]
    label: str


def compare(before: Crowd, after: Crowd) -> Comparison:
    """Measure two generations, given who is labelled in each.

    Raises:
        TooFewLabelsError: there are fewer than MIN_QUESTIONS questions.
    """
    known, queries = _questions(before, after)
    scenes = {scene.id: scene for crowd in (after, before) for scene in crowd.scenes}
    ordered = sorted(scenes)
    places = {id: place for place, id in enumerate(ordered)}
    where: dict[str, list[_Known]] = {}
    for one in known.values():
        where.setdefault(one.label, []).append(one)

    def search_map(crowd: Crowd) -> float:
        of_scene = dict(zip((scene.id for scene in crowd.scenes), crowd.people, strict=True))
        embeddings = {
            id: embedding
            for ids, people in zip(crowd.ids, crowd.people, strict=True)
            for id, embedding in zip(ids, people.embeddings, strict=True)
        }
        questions = []
        for id in queries:
            if id in embeddings:
                one = known[id]
                others = [other for other in where[one.label] if other.scene != one.scene]
                holds = [(places[other.scene], other.box) for other in others]
                place = places[one.scene]
                questions.append(Question(place, one.box, embeddings[id], one.label, holds))
        if not questions:
            return 0.0
        nobody = Detections.empty(len(questions[0].embedding))
        searched = Crowd(
            scenes=tuple(scenes[id] for id in ordered),
            ids=tuple(() for _ in ordered),
            labels=tuple(() for _ in ordered),
            people=tuple(of_scene.get(id, nobody) for id in ordered),
        )
        measured = evaluate(searched, questions)
        return float(measured.result.average_precisions.sum()) / len(queries)

    return Comparison(len(queries), search_map(before), search_map(after))


def check_labels(*crowds: Crowd) -> None:
    """
    Raises:
        TooFewLabelsError: compare would ask fewer than MIN_QUESTIONS questions of these people.
    """
    _questions(*crowds)


def _questions(*crowds: Crowd) -> tuple[dict[str, _Known], list[str]]:
    """Who is labelled, by id, as the first generation has them; the ids of those who ask."""
    known: dict[str, _Known] = {}
    for crowd in crowds:
        for scene, ids, labels, people in zip(
            crowd.scenes, crowd.ids, crowd.labels, crowd.people, strict=True
        ):
            for id, label, box in zip(ids, labels, people.boxes, strict=True):
                if label is not None:
                    known.setdefault(id, _Known(scene.id, box, label))
    scenes: dict[str, set[str]] = {}
    for one in known.values():
        scenes.setdefault(one.label, set()).add(one.scene)
    queries = [id for id, one in known.items() if len(scenes[one.label]) > 1]
    if len(queries) < MIN_QUESTIONS:
        raise TooFewLabelsError(
            f"{len(queries)} labelled people have their label in another image, too; comparing two "
            f"models takes {MIN_QUESTIONS}.",
            limits={"min_labelled_people": MIN_QUESTIONS},
        )
    return known, queries
