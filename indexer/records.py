"""What goes into a gallery and what comes out.

Boxes are x1, y1, x2, y2 in pixels of the upright picture, held as float32 and given as the floats
that are exactly those values. Times carry a time zone; what comes out is UTC.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, time
from typing import Literal

from models.detections import Detections
from models.evaluation.calibration import Calibration

GenerationState = Literal["building", "active", "kept"]


@dataclass(frozen=True)
class NewScene:
    """A picture to store, and what its sender says about it.

    Attributes:
        content: the file as it came.
        sha256: of content, in hex; two files with the same one are one scene.
        width, height: of the upright picture, in pixels.
        format: "JPEG", "PNG", ….
        orientation: the EXIF orientation that was applied, 1 to 8.
        external_id: the sender's own name for it, unique in a gallery.
        captured_at: when the picture was taken; with a time zone.
    """

    content: bytes
    sha256: str
    width: int
    height: int
    format: str
    orientation: int
    external_id: str | None = None
    camera_id: str | None = None
    captured_at: datetime | None = None
    tags: tuple[str, ...] = ()
    attributes: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class StoredDetection:
    """One person in a stored scene.

    Attributes:
        score: the detection score in [0, 1].
        label: who people say it is, if they do. It never changes a ranking.
    """

    id: str
    scene_id: str
    box: tuple[float, float, float, float]
    score: float
    label: str | None = None


@dataclass(frozen=True)
class StoredScene:
    """A stored picture; its detections are best first, and empty in the hits of a search."""

    id: str
    sha256: str
    width: int
    height: int
    format: str
    orientation: int
    external_id: str | None
    camera_id: str | None
    captured_at: datetime | None
    created_at: datetime
    tags: tuple[str, ...]
    attributes: Mapping[str, str]
    detections: tuple[StoredDetection, ...] = ()


@dataclass(frozen=True)
class TimeOfDay:
    """Some hours of every day, as clocks somewhere show them: start ≤ time < end.

    Attributes:
        start, end: without a zone; where start is later, the hours pass midnight.
        zone: its name in the IANA database.
    """

    start: time
    end: time
    zone: str


@dataclass(frozen=True)
class SceneFilter:
    """Which scenes are meant: those that meet every condition given.

    Attributes:
        camera_in: None is any camera, also an unnamed one; an empty tuple is none at all.
        camera_not_in: scenes without a camera pass.
        captured_from, captured_to: from ≤ captured_at < to; scenes without a time fail either.
        time_of_day: of captured_at; scenes without a time fail.
        tags_all, tags_any, tags_none: scenes with all, at least one (when any are given), none of
            these.
    """

    camera_in: tuple[str, ...] | None = None
    camera_not_in: tuple[str, ...] = ()
    captured_from: datetime | None = None
    captured_to: datetime | None = None
    time_of_day: TimeOfDay | None = None
    tags_all: tuple[str, ...] = ()
    tags_any: tuple[str, ...] = ()
    tags_none: tuple[str, ...] = ()
    scene_not_in: tuple[str, ...] = ()
    external_id: str | None = None


EVERY_SCENE = SceneFilter()


@dataclass(frozen=True)
class GalleryHit:
    """One answer of a search.

    Attributes:
        score: class-weighted similarity in [−1, 1], rounded to 6 decimals; larger is nearer.
        similarity: cosine similarity in [−1, 1].
    """

    detection: StoredDetection
    scene: StoredScene
    score: float
    similarity: float


@dataclass(frozen=True)
class AddResult:
    """The stored scene, and whether it was stored just now or had been before."""

    scene: StoredScene
    created: bool


@dataclass(frozen=True)
class ScenePage:
    """Some scenes in the order of their ids, and the next page's cursor; None after the last."""

    scenes: tuple[StoredScene, ...]
    next_cursor: str | None


@dataclass(frozen=True)
class GalleryModel:
    """The model whose embeddings a generation holds; path is where it was last loaded from."""

    name: str
    fingerprint: str
    embedding_dim: int
    path: str | None = None


@dataclass(frozen=True, eq=False)
class Crowd:
    """Stored people, as one committed state has them.

    Attributes:
        scenes: without their detections, in the order in which they were added.
        ids: of each scene, the ids of its detections in the order of their rows.
        labels: of each scene, the labels of those; None without a label.
        people: of each scene, boxes, scores and embeddings of those.
    """

    scenes: tuple[StoredScene, ...]
    ids: tuple[tuple[str, ...], ...]
    labels: tuple[tuple[str | None, ...], ...]
    people: tuple[Detections, ...]

    @property
    def labels_sha256(self) -> str:
        """SHA-256 of the sorted pairs of detection id and label, as JSON: a name for the labels."""
        pairs = [
            [id, label]
            for ids, labels in zip(self.ids, self.labels, strict=True)
            for id, label in zip(ids, labels, strict=True)
            if label is not None
        ]
        return hashlib.sha256(json.dumps(sorted(pairs)).encode()).hexdigest()


@dataclass(frozen=True)
class StoredCalibration:
    """What scores of one model are worth in one gallery, measured on its labels at one time."""

    id: str
    model_fingerprint: str
    labels_sha256: str
    created_at: datetime
    content: Calibration


@dataclass(frozen=True)
class Generation:
    """All people that one model finds in the scenes.

    Attributes:
        state: "active" answers searches; "building" gets ready for that, and gets new scenes, too;
            "kept" stays as it was, without the scenes that came since.
    """

    number: int
    id: str
    state: GenerationState
    model: GalleryModel
    created_at: datetime
    activated_at: datetime | None


@dataclass(frozen=True)
class GenerationCount:
    """A generation, how many scenes it has, and how many people are in them."""

    generation: Generation
    scenes: int
    detections: int


@dataclass(frozen=True)
class GalleryStats:
    """How much there is, and how far along.

    Attributes:
        originals_bytes: sum of the stored files.
        database_bytes: of the SQLite files.
        index_bytes: of the vectors in memory.
        last_change: number of the newest committed change.
        index_change: number of the newest change that the index holds.
        format: number of the database format.
    """

    scenes: int
    detections: int
    originals_bytes: int
    database_bytes: int
    index_bytes: int
    last_change: int
    index_change: int
    engine: str
    generation: str
    model_name: str
    model_fingerprint: str
    format: int


@dataclass(frozen=True)
class IndexState:
    """How much the index in memory and the database hold, and how much of it is unused.

    Attributes:
        rows: detections that the index holds.
        gone: places in the index of detections that were removed.
        index_bytes, database_bytes: used and unused; the database without its log.
        database_free_bytes: unused bytes of the database.
        compacted_at: when it was last compacted; None for never, or for before the audit trail
            begins.
    """

    rows: int
    gone: int
    index_bytes: int
    database_bytes: int
    database_free_bytes: int
    compacted_at: datetime | None


@dataclass(frozen=True)
class Compaction:
    """What a compaction freed: places of the index, bytes of memory and of disk."""

    gone: int
    index_bytes: int
    database_bytes: int
