"""Scenes again of what is in quarantine."""

from collections.abc import Collection, Iterator
from dataclasses import dataclass

from indexer.gallery.gallery import Gallery
from indexer.ingest.ingest import DEFAULT_LIMITS, index_scene
from indexer.records import AddResult
from models.detector import Detector
from models.errors import ImageError
from models.image import ImageLimits


@dataclass(frozen=True)
class TakenBack:
    """What became of a file in quarantine: a result, or the error that prevented one."""

    sha256: str
    result: AddResult | None
    error: ImageError | None


def take_back(
    contents: Collection[str],
    detector: Detector,
    gallery: Gallery,
    *,
    limits: ImageLimits = DEFAULT_LIMITS,
    camera_id: str | None = None,
    tags: tuple[str, ...] = (),
) -> Iterator[TakenBack]:
    """Add files of the quarantine, by their SHA-256, yielding what became of each.

    What was known of such a scene is lost with its row: it gets a new id, and the camera and tags
    given here. A file that cannot be read as a picture stays in quarantine.

    Raises:
        GalleryError: one of them is not there, or the gallery cannot go on; what was yielded is
            stored.
    """
    for sha256 in contents:
        content = gallery.quarantine.read(sha256)
        try:
            result = index_scene(
                content, detector, gallery, limits=limits, camera_id=camera_id, tags=tags
            )
        except ImageError as error:
            yield TakenBack(sha256, None, error)
        else:
            gallery.quarantine.forget(sha256)  # its bytes may be others than its name says
            yield TakenBack(sha256, result, None)
