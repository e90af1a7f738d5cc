"""Where a model is good and where it fails: its figures by camera, height and light."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.datasets.scene import Query, Scene, SceneDataset
from models.evaluation.bootstrap import Estimate, estimate, resamples
from models.evaluation.detection import Judged, judge
from models.evaluation.found import Found
from models.evaluation.protocols import PROTOCOLS, Protocol
from models.evaluation.search import SearchResult, evaluate_search

LEAST_QUERIES = 5
LEAST_PEOPLE = 20
LEAST_SCENES = 5
"""Fewer scenes say nothing of how far a figure would be off in others: no interval."""

HEIGHTS_PX = (80.0, 120.0, 180.0)
HEIGHT_NAMES = ("under 80 px", "80 to 120 px", "120 to 180 px", "180 px and more")
LUMA = (70.0, 130.0)
LIGHT_NAMES = ("dark", "medium", "bright")

REC_601 = np.array([0.299, 0.587, 0.114])
"""What red, green and blue give to luma."""

FOUND_WEIGHTED = "found people by score × cosine"
FOUND_COSINE = "found people by cosine"
ANNOTATED = "annotated boxes by cosine"


@dataclass(frozen=True, eq=False)
class Light:
    """Mean luma, 0 to 255, of each scene's boxes ([N] a scene) and of each query's box [Q]."""

    boxes: tuple[NDArray[np.float64], ...]
    queries: NDArray[np.float64]


@dataclass(frozen=True)
class DetectionPart:
    """How well people are found, in one group of scenes or of people.

    Attributes:
        kind: "all", "camera", "height" or "light".
        scenes, people: how many there were; of a group of people, the scenes that have any.
        recall, precision, ap: None where there are too few people, or none to be told: a wrong
            detection belongs to no group of people, so that those have a recall only.
    """

    kind: str
    name: str
    scenes: int
    people: int
    recall: Estimate | None
    precision: Estimate | None
    ap: Estimate | None


@dataclass(frozen=True)
class SearchPart:
    """How well people are found again: of one group of queries, or of all in one way.

    Attributes:
        kind: "all", "camera", "height", "light" or "way".
        queries, people: how many were asked, for how many people.
        map, top_1: None where there are too few queries.
    """

    kind: str
    name: str
    queries: int
    people: int
    map: Estimate | None
    top_1: Estimate | None


@dataclass(frozen=True)
class Difference:
    """How much better one way of searching is than another, over the same queries; in [−1, 1]."""

    better: str
    than: str
    map: Estimate
    top_1: Estimate


@dataclass(frozen=True)
class Breakdown:
    """The figures of one model on one dataset.

    Attributes:
        detection: all, then groups; empty where nobody was to be found.
        search: all, then groups; empty where the dataset asks no queries.
        ways: all queries, searched in several ways.
        differences: between those ways.
    """

    detection: tuple[DetectionPart, ...]
    search: tuple[SearchPart, ...]
    ways: tuple[SearchPart, ...]
    differences: tuple[Difference, ...]


def break_down(
    found: Found, dataset: SceneDataset, light: Light, *, annotated: Found | None = None
) -> Breakdown:
    """All figures of what was found, each with the 95 % interval of resampled scenes or queries.

    Heights are those of the annotated boxes, of a query's that of its own box. People who are
    neutral in detection, by the dataset's protocol, are in no group of it.

    Args:
        found: detected by the model.
        light: as `measure_light` tells it.
        annotated: the same scenes with the annotated boxes described (gt_boxes).

    Raises:
        DatasetError: the dataset has other scenes, or a query that cannot be answered.
    """
    for one in (found, *([annotated] if annotated else [])):
        one.check(dataset)
    protocol = PROTOCOLS[dataset.protocol]
    ways = {FOUND_WEIGHTED: _search(found, dataset, protocol, class_weighted=True)}
    ways[FOUND_COSINE] = _search(found, dataset, protocol, class_weighted=False)
    if annotated:
        ways[ANNOTATED] = _search(annotated, dataset, protocol, class_weighted=False)
    results = {name: own for name, own in ways.items() if own is not None}
    return Breakdown(
        detection=tuple(_detection_parts(found, dataset, light, protocol)),
        search=tuple(_search_parts(results[FOUND_WEIGHTED], dataset, light)) if results else (),
        ways=tuple(
            _search_part("way", name, own, dataset.queries, np.arange(len(dataset.queries)))
            for name, own in results.items()
        ),
        differences=tuple(_differences(results)),
    )


def measure_light(
    dataset: SceneDataset, *, progress: Callable[[Iterable[Scene]], Iterable[Scene]] = iter
) -> Light:
    """Read the scenes and measure how bright their people and queries are.

    Args:
        progress: wraps the scenes as they are worked through.
    """
    asked: dict[int, list[int]] = {}
    for number, query in enumerate(dataset.queries):
        asked.setdefault(query.scene, []).append(number)
    queries = np.zeros(len(dataset.queries))
    boxes = []
    for index, scene in enumerate(progress(dataset.scenes)):
        own = asked.get(index, [])
        shown = np.array([dataset.queries[number].box for number in own], np.float32)
        every = np.concatenate([scene.boxes, shown.reshape(-1, 4)])
        luma = mean_luma(scene.read(), every) if len(every) else np.zeros(0)
        boxes.append(luma[: len(scene.boxes)])
        queries[own] = luma[len(scene.boxes) :]
    return Light(tuple(boxes), queries)


def mean_luma(pixels: NDArray[np.uint8], boxes: NDArray[np.floating]) -> NDArray[np.float64]:
    """Mean Rec. 601 luma [N], 0 to 255, within boxes [N, 4] of a picture [H, W, 3].

    Of a box that reaches past the edge, what is inside counts; of one outside, the nearest pixels.
    """
    height, width = pixels.shape[:2]
    means = np.zeros(len(boxes))
    for number, (x1, y1, x2, y2) in enumerate(boxes.tolist()):
        left, top = min(max(int(x1), 0), width - 1), min(max(int(y1), 0), height - 1)
        right, bottom = max(left + 1, int(np.ceil(x2))), max(top + 1, int(np.ceil(y2)))
        means[number] = pixels[top:bottom, left:right].mean(axis=(0, 1)) @ REC_601
    return means


def _search(
    found: Found, dataset: SceneDataset, protocol: Protocol, *, class_weighted: bool
) -> SearchResult | None:
    return evaluate_search(
        dataset,
        found.detections,
        found.embeddings_of(dataset.queries),
        class_weighted=class_weighted,
        protocol=protocol,
    )


def _detection_parts(
    found: Found, dataset: SceneDataset, light: Light, protocol: Protocol
) -> list[DetectionPart]:
    judged, scenes, luma = [], [], []
    for scene, own, its_luma in zip(dataset.scenes, found.detections, light.boxes, strict=True):
        verdict = judge(scene, own, protocol=protocol)
        if verdict is not None:
            judged.append(verdict)
            scenes.append(scene)
            luma.append(its_luma[verdict.people])
    if not sum(len(own.people) for own in judged):
        return []
    parts = [_scenes_part("all", "", judged, protocol)]
    cameras = sorted({scene.camera for scene in scenes})
    for camera in cameras if len(cameras) > 1 else ():
        chosen = [own for own, scene in zip(judged, scenes, strict=True) if scene.camera == camera]
        parts.append(_scenes_part("camera", camera, chosen, protocol))
    heights = [
        (scene.boxes[:, 3] - scene.boxes[:, 1])[own.people]
        for own, scene in zip(judged, scenes, strict=True)
    ]
    for kind, values, edges, names in (
        ("height", heights, HEIGHTS_PX, HEIGHT_NAMES),
        ("light", luma, LUMA, LIGHT_NAMES),
    ):
        for place, name in enumerate(names):
            chosen_people = [np.digitize(own, edges) == place for own in values]
            parts.append(_people_part(kind, name, judged, chosen_people))
    return parts


def _scenes_part(
    kind: str, name: str, judged: Sequence[Judged], protocol: Protocol
) -> DetectionPart:
    people = np.array([len(own.people) for own in judged])
    right = np.array([np.count_nonzero(own.right) for own in judged])
    kept = np.array([len(own.right) for own in judged])
    if people.sum() < LEAST_PEOPLE:
        return DetectionPart(kind, name, len(judged), int(people.sum()), None, None, None)
    ap = average_precision(judged, people, interpolated=protocol.interpolated)
    return DetectionPart(
        kind=kind,
        name=name,
        scenes=len(judged),
        people=int(people.sum()),
        recall=share_over_scenes(right, people),
        precision=share_over_scenes(right, kept) if kept.any() else None,
        ap=_over_scenes(ap, len(judged)),
    )


def _people_part(
    kind: str, name: str, judged: Sequence[Judged], chosen: Sequence[NDArray[np.bool_]]
) -> DetectionPart:
    people = np.array([np.count_nonzero(own) for own in chosen])
    found = np.array(
        [np.count_nonzero(own.found[its]) for own, its in zip(judged, chosen, strict=True)]
    )
    there = people > 0
    enough = people.sum() >= LEAST_PEOPLE
    recall = share_over_scenes(found[there], people[there]) if enough else None
    return DetectionPart(
        kind, name, int(np.count_nonzero(there)), int(people.sum()), recall, None, None
    )


def share_over_scenes(part: NDArray[np.int64], whole: NDArray[np.int64]) -> Estimate:
    """A share, with part and whole counted per scene [S], over resampled scenes."""

    def share(weights: NDArray[np.int64]) -> float:
        total = int(weights @ whole)
        return float(weights @ part) / total if total else np.nan

    return _over_scenes(share, len(whole))


def _over_scenes(figure: Callable[[NDArray[np.int64]], float], scenes: int) -> Estimate:
    """A figure computed from how often each scene counts [S]: as measured, and resampled."""
    value = figure(np.ones(scenes, np.int64))
    if scenes < LEAST_SCENES:
        return Estimate(value, None, None)
    return estimate(value, np.array([figure(weights) for weights in resamples(scenes)]))


def average_precision(
    judged: Sequence[Judged], people: NDArray[np.int64], *, interpolated: bool
) -> Callable[[NDArray[np.int64]], float]:
    """Detection AP as a function of how often each scene is there [S], NaN where nobody is.

    With every scene once it is that of `evaluate_detection`; what is sorted is sorted once for all.

    Args:
        judged: of each scene.
        people: [S], how many are to be found in each.
    """
    scores = np.concatenate([own.scores for own in judged])
    order = np.argsort(-scores, kind="stable")
    scene = np.repeat(np.arange(len(judged)), [len(own.scores) for own in judged])[order]
    right = np.concatenate([own.right for own in judged])[order]
    ends = np.flatnonzero(np.append(np.diff(scores[order]) != 0, True)[: len(order)])

    def figure(weights: NDArray[np.int64]) -> float:
        total = int(weights @ people)
        if not total or not len(order):
            return 0.0 if total else np.nan
        counted = weights[scene]
        hits = np.cumsum(counted * right)[ends]
        precision = hits / np.maximum(1, np.cumsum(counted)[ends])
        if interpolated:
            precision = np.maximum.accumulate(precision[::-1])[::-1]
        return float(np.sum(np.diff(hits, prepend=0) * precision)) / total

    return figure


def _search_parts(result: SearchResult, dataset: SceneDataset, light: Light) -> list[SearchPart]:
    queries = dataset.queries
    parts = [_search_part("all", "", result, queries, np.arange(len(queries)))]
    cameras = np.array([dataset.scenes[query.scene].camera for query in queries])
    names = np.unique(cameras).tolist()
    for name in names if len(names) > 1 else ():
        chosen = np.flatnonzero(cameras == name)
        parts.append(_search_part("camera", name, result, queries, chosen))
    heights = np.array([query.box[3] - query.box[1] for query in queries])
    for kind, values, edges, names in (
        ("height", heights, HEIGHTS_PX, HEIGHT_NAMES),
        ("light", light.queries, LUMA, LIGHT_NAMES),
    ):
        for place, name in enumerate(names):
            chosen = np.flatnonzero(np.digitize(values, edges) == place)
            parts.append(_search_part(kind, name, result, queries, chosen))
    return parts


def _search_part(
    kind: str,
    name: str,
    result: SearchResult,
    queries: Sequence[Query],
    chosen: NDArray[np.int64],
) -> SearchPart:
    people = len({queries[number].person_id for number in chosen.tolist()})
    if len(chosen) < LEAST_QUERIES:
        return SearchPart(kind, name, len(chosen), people, None, None)
    average, top_1 = _mean(result.average_precisions[chosen]), _mean(_first(result)[chosen])
    return SearchPart(kind, name, len(chosen), people, average, top_1)


def _differences(results: dict[str, SearchResult]) -> list[Difference]:
    found = []
    for better, than in ((FOUND_WEIGHTED, FOUND_COSINE), (ANNOTATED, FOUND_COSINE)):
        more, less = results.get(better), results.get(than)
        if more is None or less is None or len(more.average_precisions) < LEAST_QUERIES:
            continue
        average = _mean(more.average_precisions - less.average_precisions)
        found.append(Difference(better, than, average, _mean(_first(more) - _first(less))))
    return found


def _first(result: SearchResult) -> NDArray[np.float64]:
    """For each query [Q], 1 if its first hit is right, else 0."""
    return (result.first_right < 1).astype(np.float64)


def _mean(values: NDArray[np.float64]) -> Estimate:
    """The mean of the queries' values [Q]: as measured, and over resampled queries."""
    rounds = resamples(len(values)) @ values / len(values)
    return estimate(float(values.mean()), rounds)
