"""What an erasure would erase."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from indexer.errors import SceneNotFoundError
from indexer.gallery.gallery import Gallery
from indexer.index.live import View
from indexer.records import GalleryHit, SceneFilter, StoredScene
from service.upkeep.schemas import ErasureMatch, ErasureRequest

PAGE = 500
FIRST_HITS = 1000


@dataclass(frozen=True)
class Selected:
    """What an erasure means: scenes, with everybody in them, or detections.

    Attributes:
        scenes: in which something is erased, by id.
        detections: ids of those that go.
        whole: whether the scenes go, too.
        best: of a scene's id, the hit that it was chosen for.
    """

    scenes: Mapping[str, StoredScene]
    detections: frozenset[str]
    whole: bool
    best: Mapping[str, GalleryHit]

    @property
    def ids(self) -> frozenset[str]:
        """Of what goes: scenes, or detections."""
        return frozenset(self.scenes) if self.whole else self.detections

    @property
    def all_ids(self) -> frozenset[str]:
        """Of all that goes."""
        return self.ids | self.detections

    def matches(self, limit: int) -> list[ErasureMatch]:
        """One for each scene; best first, or oldest."""
        order = sorted(
            self.scenes.values(),
            key=lambda scene: (
                -self.best[scene.id].score if scene.id in self.best else 0,
                scene.id,
            ),
        )
        return [self._match(scene) for scene in order[:limit]]

    def _match(self, scene: StoredScene) -> ErasureMatch:
        best = self.best.get(scene.id)
        return ErasureMatch(
            image_id=scene.id,
            external_id=scene.external_id,
            camera_id=scene.camera_id,
            captured_at=scene.captured_at,
            detection_ids=[one.id for one in scene.detections if one.id in self.detections],
            score=None if best is None else best.score,
            similarity=None if best is None else round(best.similarity, 6),
        )


def select(
    gallery: Gallery, wanted: ErasureRequest, query: NDArray[np.float32] | None, view: View
) -> Selected:
    """What a preview asks for, as the gallery is now.

    Args:
        query: [D], of unit length, where wanted.query is given.
        view: whose model described it.
    """
    best: dict[str, GalleryHit] = {}
    meant: set[str] | None = None  # ids of detections; None is everybody in the scenes
    if wanted.filter is not None:
        scenes = _all_scenes(gallery, wanted.filter.scene_filter())
    elif wanted.image_ids is not None:
        scenes = _scenes(gallery, wanted.image_ids)
    elif wanted.external_ids is not None:
        named = (SceneFilter(external_id=each) for each in wanted.external_ids)
        scenes = [scene for one in named for scene in gallery.scenes.page(one, limit=1).scenes]
    elif wanted.detection_ids is not None or wanted.label is not None:
        if wanted.label is not None:
            people = gallery.people.with_label(wanted.label)
        else:
            people = gallery.people.with_ids(wanted.detection_ids or ())
        meant = {one.id for one in people}
        scenes = _scenes(gallery, {one.scene_id for one in people})
    else:
        assert query is not None
        assert wanted.min_score is not None
        hits = _all_hits(gallery, query, wanted.min_score, view)
        for hit in hits:
            best.setdefault(hit.scene.id, hit)
        meant = {hit.detection.id for hit in hits}
        scenes = _scenes(gallery, best)
    whole = wanted.erase == "images"
    found = {one.id for scene in scenes for one in scene.detections}
    return Selected(
        {scene.id: scene for scene in scenes},
        frozenset(found if whole or meant is None else found & meant),
        whole,
        best,
    )


def _scenes(gallery: Gallery, ids: Iterable[str]) -> list[StoredScene]:
    found = []
    for id in ids:
        try:
            found.append(gallery.get(id))
        except SceneNotFoundError:
            continue
    return found


def _all_scenes(gallery: Gallery, filter: SceneFilter) -> list[StoredScene]:
    found: list[StoredScene] = []
    cursor: str | None = None
    while True:
        page = gallery.scenes.page(filter, limit=PAGE, cursor=cursor)
        found += page.scenes
        cursor = page.next_cursor
        if cursor is None:
            return found


def _all_hits(
    gallery: Gallery, query: NDArray[np.float32], min_score: float, view: View
) -> list[GalleryHit]:
    k = FIRST_HITS
    while True:
        hits = gallery.search(query, k=k, min_score=min_score, view=view)
        if len(hits) < k:
            return hits
        k *= 4
