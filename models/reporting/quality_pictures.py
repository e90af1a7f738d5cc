"""What a model's answers look like: people found again, missed, made up and mixed up."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from models.datasets.scene import SceneDataset
from models.evaluation.detection import judge
from models.evaluation.found import Found
from models.evaluation.protocols import PROTOCOLS
from models.evaluation.search import Ranking, rankings
from models.reporting.people import choose_people
from models.reporting.quality_sheet import (
    FRAME,
    GREEN,
    GREY,
    RED,
    Tile,
    crop,
    draw_sheet,
    in_context,
)
from models.similarity import gallery_vectors

RESULTS, MISSED, FALSE, CONFUSED = "results.png", "missed.png", "false.png", "confused.png"
QUERIES_SHOWN = 20
HITS_SHOWN = 5
PEOPLE_SHOWN = 24
CONFUSED_SHOWN = 20
CROP_SIZE = (84, 168)
CONTEXT_SIZE = (190, 230)


@dataclass(frozen=True)
class Drawn:
    """A sheet that was written: its file name, and what it shows."""

    name: str
    says: str


def draw_all(found: Found, dataset: SceneDataset, directory: Path) -> list[Drawn]:
    """Write every sheet that has something to show, and delete those of an earlier run.

    Args:
        found: detected by a model. A dataset without queries is searched for people who were
            found in it; then nobody knows which hit is right.
    """
    for name in (RESULTS, MISSED, FALSE, CONFUSED):
        (directory / name).unlink(missing_ok=True)
    if dataset.queries:
        answers = _answers(found, dataset)
        drawn = [
            _results(found, dataset, answers, directory),
            _confused(found, dataset, answers, directory),
        ]
    else:
        drawn = [_found_again(found, dataset, directory)]
    drawn += [_missed(found, dataset, directory), _false(found, dataset, directory)]
    return [own for own in drawn if own is not None]


def evenly(count: int, shown: int) -> list[int]:
    """At most `shown` of 0 … count − 1 at even distances, the first and the last among them."""
    return [int(place) for place in np.linspace(0, count - 1, min(count, shown)).round()]


def shown_of(shown: int, count: int, what: str) -> str:
    """How many of how many are shown, for reading."""
    return f"All {count} {what}" if shown == count else f"{shown} of {count} {what}, evenly spread"


def _answers(found: Found, dataset: SceneDataset) -> list[Ranking]:
    """For each query the hits that may be shown: the best one, and the first right one."""
    answers = []
    for ranking in rankings(
        dataset,
        found.detections,
        found.embeddings_of(dataset.queries),
        protocol=PROTOCOLS[dataset.protocol],
    ):
        best = np.arange(min(HITS_SHOWN, len(ranking.right)))
        kept = np.union1d(best, np.flatnonzero(ranking.right)[:1])
        answers.append(
            Ranking(
                ranking.scenes[kept],
                ranking.detections[kept],
                ranking.similarity[kept],
                ranking.right[kept],
            )
        )
    return answers


def _results(
    found: Found, dataset: SceneDataset, answers: Sequence[Ranking], directory: Path
) -> Drawn:
    chosen = evenly(len(answers), QUERIES_SHOWN)
    groups = []
    for number in chosen:
        best = range(min(HITS_SHOWN, len(answers[number].right)))
        hits = [_hit(found, dataset, answers[number], place) for place in best]
        groups.append([_query(dataset, number), *hits])
    right = sum(bool(answers[number].right[:1].any()) for number in chosen)
    draw_sheet(
        directory / RESULTS,
        groups,
        title=f"Who is found again: {dataset.name}",
        note=f"{shown_of(len(chosen), len(answers), 'queries')}; their best {HITS_SHOWN} hits, "
        f"with score times cosine. First hit right: {right} of {len(chosen)}.",
        tile=CROP_SIZE,
        per_row=3,
    )
    return Drawn(
        RESULTS,
        f"{shown_of(len(chosen), len(answers), 'queries')}, and their best {HITS_SHOWN} hits. A "
        "further detection of a person who is right already is wrong.",
    )


def _confused(
    found: Found, dataset: SceneDataset, answers: Sequence[Ranking], directory: Path
) -> Drawn | None:
    wrong = [n for n, own in enumerate(answers) if len(own.right) and not own.right[0]]
    if not wrong:
        return None
    chosen = sorted(wrong, key=lambda n: -answers[n].similarity[0])[:CONFUSED_SHOWN]
    groups = []
    for number in chosen:
        own = answers[number]
        right = [_hit(found, dataset, own, int(place)) for place in np.flatnonzero(own.right)[:1]]
        first = _hit(found, dataset, own, 0)
        groups.append([_query(dataset, number), first, *(right or [Tile(None, "not found")])])
    draw_sheet(
        directory / CONFUSED,
        groups,
        title=f"Surest mistakes: {dataset.name}",
        note=f"{len(chosen)} of {len(wrong)} queries whose first hit is wrong: the query, its "
        "first hit, its first right hit, with score times cosine.",
        tile=CROP_SIZE,
        per_row=5,
    )
    return Drawn(
        CONFUSED,
        f"Queries whose first hit is wrong: {len(chosen)} of {len(wrong)}, where it is surest.",
    )


def _missed(found: Found, dataset: SceneDataset, directory: Path) -> Drawn | None:
    missed = []
    for index, (scene, own) in enumerate(zip(dataset.scenes, found.detections, strict=True)):
        verdict = judge(scene, own, protocol=PROTOCOLS[dataset.protocol])
        if verdict is not None:
            missed += [(index, int(box)) for box in verdict.people[~verdict.found]]
    if not missed:
        return None
    chosen = [missed[place] for place in evenly(len(missed), PEOPLE_SHOWN)]
    tiles = []
    for index, number in chosen:
        box = dataset.scenes[index].boxes[number]
        pixels = _in_context(found, dataset, index, box)
        tiles.append([Tile(pixels, f"{box[3] - box[1]:.0f} px tall")])
    draw_sheet(
        directory / MISSED,
        tiles,
        title=f"Who is missed: {dataset.name}",
        note=f"{shown_of(len(chosen), len(missed), 'people')}. Blue: who was found there.",
        tile=CONTEXT_SIZE,
        per_row=8,
    )
    return Drawn(MISSED, f"{shown_of(len(chosen), len(missed), 'people')}, who were not found.")


def _false(found: Found, dataset: SceneDataset, directory: Path) -> Drawn | None:
    wrong = []
    for index, (scene, own) in enumerate(zip(dataset.scenes, found.detections, strict=True)):
        verdict = judge(scene, own, protocol=PROTOCOLS[dataset.protocol])
        if verdict is not None:
            places = verdict.detections[~verdict.right].tolist()
            wrong += [(-float(own.scores[place]), index, place) for place in places]
    if not wrong:
        return None
    chosen = sorted(wrong)[:PEOPLE_SHOWN]
    tiles = []
    for score, index, place in chosen:
        box = found.detections[index].boxes[place]
        tiles.append([Tile(_in_context(found, dataset, index, box), f"score {-score:.2f}")])
    draw_sheet(
        directory / FALSE,
        tiles,
        title=f"Surest detections of nobody: {dataset.name}",
        note=f"{len(chosen)} of {len(wrong)}: nobody annotated there, somebody found already, or "
        "too far off. Blue: who else was found there.",
        tile=CONTEXT_SIZE,
        per_row=8,
    )
    return Drawn(
        FALSE,
        f"Detections that find nobody, the surest {len(chosen)} of {len(wrong)}: nobody is "
        "annotated there, somebody was found already, or the box is too far off.",
    )


def _found_again(found: Found, dataset: SceneDataset, directory: Path) -> Drawn | None:
    chosen = choose_people(found.detections, QUERIES_SHOWN)
    if not chosen:
        return None
    vectors = np.concatenate([gallery_vectors(own) for own in found.detections])
    scenes = np.repeat(np.arange(len(found.detections)), [len(own) for own in found.detections])
    places = np.concatenate([np.arange(len(own)) for own in found.detections])
    groups = []
    for scene, place in chosen:
        similarity = vectors @ found.detections[scene].embeddings[place]
        elsewhere = np.flatnonzero(scenes != scene)
        order = elsewhere[np.argsort(-similarity[elsewhere], kind="stable")][:HITS_SHOWN]
        ranking = Ranking(
            scenes[order], places[order], similarity[order], np.zeros(len(order), np.bool_)
        )
        box = found.detections[scene].boxes[place]
        asked = Tile(crop(dataset.scenes[scene].read(), box), "query")
        hits = [_hit(found, dataset, ranking, own, known=False) for own in range(len(order))]
        groups.append([asked, *hits])
    draw_sheet(
        directory / RESULTS,
        groups,
        title=f"Who is found again: {dataset.name}",
        note=f"{len(groups)} people found in {len(dataset.scenes)} pictures, and the best "
        f"{HITS_SHOWN} hits in the other pictures, with score times cosine.",
        tile=CROP_SIZE,
        per_row=3,
    )
    return Drawn(
        RESULTS,
        f"{len(groups)} people who were found, the surest of pictures evenly spread, and their "
        f"best {HITS_SHOWN} hits in the other pictures. Nobody knows which are right.",
    )


def _query(dataset: SceneDataset, number: int) -> Tile:
    query = dataset.queries[number]
    return Tile(crop(dataset.scenes[query.scene].read(), query.box), f"query {number}")


def _hit(
    found: Found, dataset: SceneDataset, ranking: Ranking, place: int, *, known: bool = True
) -> Tile:
    scene, detection = int(ranking.scenes[place]), int(ranking.detections[place])
    box = found.detections[scene].boxes[detection]
    frame = (GREEN if ranking.right[place] else RED) if known else GREY
    pixels = crop(dataset.scenes[scene].read(), box)
    return Tile(pixels, f"{ranking.similarity[place]:.2f}", frame)


def _in_context(
    found: Found, dataset: SceneDataset, index: int, box: NDArray[np.float32]
) -> NDArray[np.uint8]:
    boxes = found.detections[index].boxes
    others = boxes[(boxes != box).any(axis=1)]
    pixels = dataset.scenes[index].read()
    width, height = (side - 2 * FRAME for side in CONTEXT_SIZE)
    return in_context(pixels, box, colour=RED, others=others, size=(width, height))
