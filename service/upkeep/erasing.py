"""What an erasure would erase."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from indexer.errors import SceneNotFoundError
from indexer.gallery.gallery import Gallery
from indexer.index.live import View
from indexer.records import GalleryHit, SceneFilter, StoredScene

PAGE = 500
FIRST_HITS = 1000


@dataclass(frozen=True)
class Meant:
    """Which scenes or people to erase: exactly one of the fields says it.

    Attributes:
        like: [D], unit length: everybody whose score to this person is at least `min_score`.
        whole_scenes: whether whole scenes go, or only the detections that are meant.
    """

    filter: SceneFilter | None = None
    scene_ids: Sequence[str] | None = None
    external_ids: Sequence[str] | None = None
    like: NDArray[np.float32] | None = None
    min_score: float = 0.0
    label: str | None = None
    detection_ids: Sequence[str] | None = None
    whole_scenes: bool = True


@dataclass(frozen=True)
class Selected:
    """Scenes, with everybody in them, or detections that an erasure selects right now.

    Attributes:
        scenes: those in which something is erased, by id.
        detections: ids of the detections that are erased.
        whole: whether the scenes are erased, too.
        best: by scene id, the best hit of a selection by likeness.
    """

    scenes: Mapping[str, StoredScene]
    detections: frozenset[str]
    whole: bool
    best: Mapping[str, GalleryHit]

    @property
    def ids(self) -> frozenset[str]:
        """Ids of the scenes that go, or of the detections."""
        return frozenset(self.scenes) if self.whole else self.detections

    @property
    def all_ids(self) -> frozenset[str]:
        """Every id that will be erased."""
        return self.ids | self.detections

    @property
    def in_order(self) -> list[StoredScene]:
        """The scenes, best hit first, or oldest first."""
        return sorted(
            self.scenes.values(),
            key=lambda scene: (
                -self.best[scene.id].score if scene.id in self.best else 0,
                scene.id,
            ),
        )


def select(gallery: Gallery, meant: Meant, view: View) -> Selected:
    """Find what is meant in the gallery as it is now.

    Args:
        view: whose model described the person who is meant, if one is.
    """
    best: dict[str, GalleryHit] = {}
    detections: set[str] | None = None  # their ids; None is everybody in the scenes
    if meant.filter is not None:
        scenes = _all_scenes(gallery, meant.filter)
    elif meant.scene_ids is not None:
        scenes = _scenes(gallery, meant.scene_ids)
    elif meant.external_ids is not None:
        named = (SceneFilter(external_id=each) for each in meant.external_ids)
        scenes = [scene for one in named for scene in gallery.scenes.page(one, limit=1).scenes]
    elif meant.like is not None:
        hits = _all_hits(gallery, meant.like, meant.min_score, view)
        for hit in hits:
            best.setdefault(hit.scene.id, hit)
        detections = {hit.detection.id for hit in hits}
        scenes = _scenes(gallery, best)
    else:
        if meant.label is not None:
            people = gallery.people.with_label(meant.label)
        else:
            people = gallery.people.with_ids(meant.detection_ids or ())
        detections = {one.id for one in people}
        scenes = _scenes(gallery, {one.scene_id for one in people})
    whole = meant.whole_scenes
    found = {one.id for scene in scenes for one in scene.detections}
    return Selected(
        {scene.id: scene for scene in scenes},
        frozenset(found if whole or detections is None else found & detections),
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
