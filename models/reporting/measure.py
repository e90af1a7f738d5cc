"""Run every model over a dataset, and score all that the tables need of it."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.boxes import clip_boxes
from models.datasets.scene import Scene, SceneDataset
from models.detections import Detections
from models.evaluate import Found, SceneModel, find, score
from models.reporting.outcome import Cell, Outcome, Run, by_head
from models.reporting.subjects import Subject
from models.reporting.words import GROUND_TRUTH, command_line

Progress = Callable[[Iterable[Scene]], Iterable[Scene]]
"""Wraps the scenes as they are worked through."""


def measure(
    subject: Subject,
    runs: Sequence[Run],
    open_detector: Callable[[Path], SceneModel],
    *,
    progress: Callable[[str], Progress] = lambda title: iter,
) -> tuple[Outcome, dict[Path, Found]]:
    """Detect once with every model, describe once with every model, and score.

    The seeds of two heads are paired in the order that they were given in: the first NAE describes
    what the first OIM found, and so on.

    Args:
        progress: of a title, what wraps the scenes as they are worked through.

    Returns:
        What was measured, and what each model found.
    """
    dataset, groups = subject.dataset, by_head(runs)
    found: dict[Path, Found] = {}
    for run in runs:
        found[run.path] = find(
            open_detector(run.path),
            dataset,
            queries=subject.queries,
            progress=progress(f"{run.path}: detect"),
        )
    whole: dict[str, list[Measured]] = {}
    crossed: dict[tuple[str, str], list[Measured]] = {}
    unweighted: dict[str, list[Measured]] = {}
    by_size: dict[str, dict[int, list[float]]] = {}
    for head, own in groups.items():
        for seed, run in enumerate(own):
            model = ("--model", run.path)
            whole.setdefault(head, []).append(_scored(found[run.path], subject, *model))
            scored = _scored(found[run.path], subject, *model, class_weighted=False)
            unweighted.setdefault(head, []).append(scored)
            for size, sized in subject.by_size.items():
                result = score(found[run.path], sized)["search"]
                if result:
                    by_size.setdefault(head, {}).setdefault(size, []).append(result["map"])
            partners = {
                other: theirs[seed].path for other, theirs in groups.items() if seed < len(theirs)
            }
            described = describe(
                open_detector(run.path),
                dataset,
                found[run.path],
                {other: found[path] for other, path in partners.items()},
                progress=progress(f"{run.path}: describe"),
            )
            for detector, cross in described.items():
                source: tuple[object, ...] = (*model, "--gt-boxes")
                if detector != GROUND_TRUTH:
                    source = ("--detector", partners[detector], "--reidentifier", run.path)
                scored = _scored(cross, subject, *source)
                crossed.setdefault((detector, head), []).append(scored)
    outcome = Outcome(
        title=subject.title,
        published_as=subject.published_as,
        data=whole[next(iter(groups))][0].result["data"],
        whole={head: _cell(measured) for head, measured in whole.items()},
        unweighted={head: _cell(measured) for head, measured in unweighted.items()},
        crossed={key: _cell(measured) for key, measured in crossed.items()},
        by_size=by_size,
        sizes_told=subject.sizes_told,
        sizes_commands=tuple(
            _command(subject, "--model", run.path, *subject.sizes_arguments)
            for own in groups.values()
            for run in own
            if subject.sizes_arguments
        ),
    )
    return outcome, found


def describe(
    detector: SceneModel,
    dataset: SceneDataset,
    own: Found,
    others: dict[str, Found],
    *,
    progress: Progress = iter,
) -> dict[str, Found]:
    """What `find` gives with the annotated boxes, and with what other models found.

    A scene is looked at once for all of them, which is what takes the time.

    Args:
        own: what the detector found itself: how it describes the queries.
        others: what models found, by name.

    Returns:
        Under GROUND_TRUTH, and under the name of each of the others.
    """
    people: dict[str, list[Any]] = {name: [] for name in (GROUND_TRUTH, *others)}
    for index, scene in enumerate(progress(dataset.scenes)):
        annotated = _annotated(scene)
        boxes = [annotated, *(found.detections[index].boxes for found in others.values())]
        embeddings = detector.embed(scene.read(), np.concatenate(boxes))
        parts = np.split(embeddings, np.cumsum([len(own) for own in boxes])[:-1])
        scores = [np.ones(len(annotated), np.float32)]
        scores += [found.detections[index].scores for found in others.values()]
        for name, part in zip(people, zip(boxes, scores, parts, strict=True), strict=True):
            people[name].append(Detections(*part))
    return {
        name: replace(own, detections=tuple(detections), gt_boxes=name == GROUND_TRUTH)
        for name, detections in people.items()
    }


@dataclass(frozen=True)
class Measured:
    """One result, and what prints it."""

    result: dict[str, Any]
    command: str


def _scored(
    found: Found, subject: Subject, *arguments: object, class_weighted: bool = True
) -> Measured:
    result = score(found, subject.dataset, class_weighted=class_weighted, per_query=True)
    plain = () if class_weighted else ("--no-cws",)
    return Measured(result, _command(subject, *arguments, *plain))


def _command(subject: Subject, *arguments: object) -> str:
    return command_line("models.evaluate", *arguments, *subject.arguments)


def _cell(measured: Sequence[Measured]) -> Cell:
    return Cell(tuple(one.result for one in measured), tuple(one.command for one in measured))


def _annotated(scene: Scene) -> NDArray[np.float32]:
    return clip_boxes(scene.boxes[~scene.ignore], height=scene.height, width=scene.width)
