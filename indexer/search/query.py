"""From a person who is looked for, in pictures or stored, to ranked hits."""

import hashlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from indexer.errors import (
    NobodyInQueryError,
    NotCalibratedError,
    OppositeQueriesError,
    SceneNotFoundError,
)
from indexer.gallery.gallery import Gallery
from indexer.index.live import View
from indexer.index.ranking import GroupBy
from indexer.records import EVERY_SCENE, GalleryHit, GalleryModel, SceneFilter
from indexer.search.rerank import by_context, by_neighbours
from models.detections import Detections
from models.detector import Detector
from models.evaluation.found import in_company
from models.image import ImageLimits, read_image

SMALL_QUERY_PX = (20, 40)
QueryWarning = Literal["small_query", "no_company", "wide_crop"]

Box = tuple[float, float, float, float]
Fusion = Literal["max", "mean"]
Reranking = Literal["none", "cbgm", "k_reciprocal"]


@dataclass(frozen=True)
class PersonQuery:
    """A person to look for, in one picture: exactly one of read, scene_id, detection_id names it.

    Attributes:
        read: gives the bytes of a picture's file, when they are needed.
        scene_id: of a stored scene.
        detection_id: of a stored detection; it needs neither box nor crop.
        box: of the person, x1 y1 x2 y2 in pixels of the upright picture; without one, the person
            who is found most surely is meant.
        crop: the whole picture is the person.
    """

    read: Callable[[], bytes] | None = None
    scene_id: str | None = None
    detection_id: str | None = None
    box: Box | None = None
    crop: bool = False

    def __post_init__(self) -> None:
        named = (self.read, self.scene_id, self.detection_id)
        if sum(value is not None for value in named) != 1:
            raise ValueError("expected one of read, scene_id and detection_id")
        if self.crop + (self.box is not None) + (self.detection_id is not None) > 1:
            raise ValueError("expected one of box, crop and detection_id, or none")


@dataclass(frozen=True)
class QueryPerson:
    """The person of one query.

    Attributes:
        embedding: [D] float32, unit length.
        box: in the upright picture; None where the whole picture is the person.
        width, height: of the person, in pixels.
        scene_ids: stored scenes that the query comes from, or is identical to.
        view: whose model described the person; only in it the embedding means anything.
        score: the detection score in [0, 1]; None where the person was given, not detected.
        company: [K, D] float32, the person and the others in the scene, surest first; None where it
            was not asked for.
    """

    embedding: NDArray[np.float32]
    box: Box | None
    width: float
    height: float
    scene_ids: tuple[str, ...]
    view: View
    score: float | None
    company: NDArray[np.float32] | None = None

    @property
    def warnings(self) -> list[QueryWarning]:
        """What makes an answer less sure."""
        found: list[QueryWarning] = []
        small = self.width < SMALL_QUERY_PX[0] or self.height < SMALL_QUERY_PX[1]
        if small:
            found.append("small_query")
        if self.company is not None and len(self.company) == 1:
            found.append("no_company")
        if self.box is None and self.width > self.height:
            found.append("wide_crop")
        return found


@dataclass(frozen=True)
class RankedHit:
    """One hit of an answer.

    Attributes:
        query: the number of the query that it is nearest to; None for their mean.
        fmr: the false-match rate at its score; None without a calibration.
    """

    hit: GalleryHit
    query: int | None
    fmr: float | None


@dataclass(frozen=True)
class Ranking:
    """Hits, best first, and the id of the calibration in use."""

    hits: list[RankedHit]
    calibration: str | None


class PersonSearch:
    """Answers searches in one gallery. `describe` runs the model, `rank` only the index."""

    def __init__(
        self,
        detector_of: Callable[[GalleryModel], Detector],
        gallery: Gallery,
        *,
        limits: ImageLimits,
    ) -> None:
        self._detector_of = detector_of
        self._gallery = gallery
        self._limits = limits

    def describe(
        self,
        queries: Sequence[PersonQuery],
        *,
        with_company: bool = False,
        timings: dict[str, float] | None = None,
    ) -> list[QueryPerson]:
        """The people who are looked for, in order; all as one model sees them.

        Args:
            with_company: also describe the others in each query's scene.
            timings: milliseconds are added to its "decode" and "infer".

        Raises:
            NobodyInQueryError: nobody is found in a query's picture.
            ImageError, BoxError, SceneNotFoundError, DetectionNotFoundError
        """
        timings = {} if timings is None else timings
        timings.update(decode=0.0, infer=0.0)
        view = self._gallery.view()
        return [
            self._describe_one(query, number, timings, view, with_company)
            for number, query in enumerate(queries)
        ]

    def rank(
        self,
        people: Sequence[QueryPerson],
        *,
        limit: int,
        fusion: Fusion = "max",
        filter: SceneFilter = EVERY_SCENE,
        min_score: float | None = None,
        max_fmr: float | None = None,
        min_detection_score: float | None = None,
        group_by: GroupBy = "detection",
        rerank: Reranking = "none",
        top_n: int = 200,
        leave_own_scenes_out: bool = True,
    ) -> Ranking:
        """Hits by score, equal scores in the order of detection ids; or as `rerank` orders them.

        They are of the generation whose model described the people, also when another one answers
        by now. Several queries of fusion max have as many chances to match somebody else: the
        false-match rates are then at most those told.

        Args:
            people: pictures of one person, described.
            limit: most hits.
            fusion: several queries rank by the best score of any, or by their mean embedding.
            min_score, max_fmr, min_detection_score: bounds on hits; all of them count.
            rerank: how the first `top_n` hits are ordered anew; "cbgm" needs people with company.
            leave_own_scenes_out: whether stored scenes that a query comes from, or is identical to,
                are left out.

        Raises:
            NotCalibratedError: max_fmr without a calibration.
            CalibrationError: one that cannot support max_fmr.
            OppositeQueriesError: the mean of the queries has no direction.
            GenerationGoneError: the generation was deleted meanwhile.
        """
        excluded = set[str]()
        if leave_own_scenes_out:
            excluded.update(scene_id for person in people for scene_id in person.scene_ids)
        vectors: list[tuple[int | None, NDArray[np.float32]]]
        if fusion == "mean" and len(people) > 1:
            vectors = [(None, _mean([person.embedding for person in people]))]
        else:
            vectors = [(number, person.embedding) for number, person in enumerate(people)]
        calibrated = self._gallery.calibrations.in_use(view=people[0].view)
        rates = None if calibrated is None else calibrated.content
        if max_fmr is not None:
            if rates is None:
                raise NotCalibratedError("no calibration was made with this model")
            lowest = rates.score_at(max_fmr, tries=len(vectors))
            min_score = lowest if min_score is None else max(min_score, lowest)
        if rerank == "none":
            top_n = 0
        wanted = max(limit, top_n)
        best: dict[str, RankedHit] = {}
        for number, vector in vectors:
            for hit in self._gallery.search(
                vector,
                k=wanted,
                filter=filter,
                min_score=min_score,
                min_detection_score=min_detection_score,
                group_by=group_by,
                exclude_scene_ids=excluded,
                view=people[0].view,
            ):
                key = hit.scene.id if group_by == "image" else hit.detection.id
                if key not in best or _order(hit) < _order(best[key].hit):
                    fmr = None if rates is None else rates.fmr(hit.score, tries=len(vectors))
                    best[key] = RankedHit(hit, number, fmr)
        hits = sorted(best.values(), key=lambda ranked: _order(ranked.hit))[:wanted]
        if top_n:
            hits[:top_n] = self._reranked(
                hits[:top_n], people, [v for _, v in vectors], rerank=rerank, fusion=fusion
            )
        return Ranking(hits[:limit], None if calibrated is None else calibrated.id)

    def _reranked(
        self,
        hits: list[RankedHit],
        people: Sequence[QueryPerson],
        vectors: Sequence[NDArray[np.float32]],
        *,
        rerank: Reranking,
        fusion: Fusion,
    ) -> list[RankedHit]:
        """The same hits in another order, without those that were removed meanwhile."""
        scenes = {one.hit.scene.id for one in hits}
        crowd = self._gallery.people.everybody(scene_ids=scenes, view=people[0].view)
        found = [one.hit for one in hits]
        if rerank == "cbgm":
            companies = [one.company for one in people if one.company is not None]
            order = by_context(found, companies, crowd, fusion=fusion)
        else:
            order = by_neighbours(found, vectors, crowd)
        return [hits[place] for place in order]

    def _describe_one(
        self,
        query: PersonQuery,
        number: int,
        timings: dict[str, float],
        view: View,
        with_company: bool,
    ) -> QueryPerson:
        if query.detection_id is not None:
            return self._stored_person(query.detection_id, view, with_company)
        if query.scene_id is not None:
            scene = self._gallery.get(query.scene_id, view=view)
            if query.box is None and not query.crop:
                if not scene.detections:
                    raise _nobody(number)
                return self._stored_person(scene.detections[0].id, view, with_company)
            scene_ids: tuple[str, ...] = (scene.id,)
            read = partial(self._gallery.scenes.picture, scene.id)
        else:
            assert query.read is not None
            content = query.read()
            same = self._gallery.scenes.find(hashlib.sha256(content).hexdigest())
            scene_ids = (same.id,) if same else ()
            read = partial(read_image, content, self._limits)
        started = time.perf_counter()
        image = read()
        decoded = time.perf_counter()
        detector = self._detector_of(view.generation.model)
        timings["decode"] += (decoded - started) * 1e3
        people: Detections | None = None
        score: float | None = None
        if query.crop:
            box = None
            embedding = detector.embed_crop(image.pixels)
        elif query.box is not None:
            box = query.box
            embedding = detector.embed(image.pixels, np.array([box], np.float64))[0]
        else:
            people = detector.detect([image.pixels])[0]
            if not len(people):
                raise _nobody(number)
            x1, y1, x2, y2 = people.boxes[0].tolist()
            box, embedding = (x1, y1, x2, y2), people.embeddings[0]
            score = float(people.scores[0])
        company = None
        if with_company and box is not None:
            if query.scene_id is not None:
                people = self._people_of(query.scene_id, view)
            elif people is None:
                people = detector.detect([image.pixels])[0]
            company = in_company(embedding, np.array(box), people)
        timings["infer"] += (time.perf_counter() - decoded) * 1e3
        width, height = (image.width, image.height) if box is None else _size(box)
        return QueryPerson(embedding, box, width, height, scene_ids, view, score, company)

    def _stored_person(self, detection_id: str, view: View, with_company: bool) -> QueryPerson:
        found = self._gallery.people.get(detection_id, view=view)
        embedding = self._gallery.people.embedding(detection_id, view=view)
        company = None
        if with_company:
            people = self._people_of(found.scene_id, view)
            company = in_company(embedding, np.array(found.box), people)
        return QueryPerson(
            embedding, found.box, *_size(found.box), (found.scene_id,), view, found.score, company
        )

    def _people_of(self, scene_id: str, view: View) -> Detections:
        crowd = self._gallery.people.everybody(scene_ids=[scene_id], view=view)
        if not crowd.people:
            raise SceneNotFoundError(f"there is no scene {scene_id}")
        return crowd.people[0]


def _order(hit: GalleryHit) -> tuple[float, str]:
    return -hit.score, hit.detection.id


def _size(box: Box) -> tuple[float, float]:
    x1, y1, x2, y2 = box
    return round(x2 - x1, 2), round(y2 - y1, 2)


def _mean(embeddings: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
    mean: NDArray[np.float64] = np.mean(np.stack(embeddings).astype(np.float64), axis=0)
    length = float(np.linalg.norm(mean))
    if length < 1e-6:
        raise OppositeQueriesError("the queries cancel out; use fusion max")
    unit: NDArray[np.float32] = (mean / length).astype(np.float32)
    return unit


def _nobody(number: int) -> NobodyInQueryError:
    return NobodyInQueryError(
        f"Query {number}: nobody was found in the picture; send a box around the person, "
        "or crop: true when the whole picture is the person."
    )
