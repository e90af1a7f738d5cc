"""From picture files to stored scenes; what is stored is skipped, so a run can be repeated."""

import hashlib
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from indexer.errors import ExternalIdConflictError, GenerationSwappedError
from indexer.gallery.gallery import Gallery
from indexer.ingest.folders import Found, ImageFile, find_images, free_id, take_place
from indexer.records import AddResult, GalleryModel, NewScene, SceneFilter, StoredScene
from indexer.rows.replies import Reply
from models.detections import Detections
from models.detector import Detector
from models.errors import ImageError, ImageTooLargeError, PersonSearchError
from models.image import ImageLimits, read_image

_log = logging.getLogger(__name__)

MAX_DETECTIONS = 100  # stored per scene, the best by score
DEFAULT_LIMITS = ImageLimits()
DetectorOf = Callable[[GalleryModel], Detector]
NO_ATTRIBUTES: Mapping[str, str] = MappingProxyType({})


def index_scene(
    content: bytes,
    detector: Detector,
    gallery: Gallery,
    *,
    detector_of: DetectorOf | None = None,
    limits: ImageLimits = DEFAULT_LIMITS,
    external_id: str | None = None,
    camera_id: str | None = None,
    captured_at: datetime | None = None,
    tags: tuple[str, ...] = (),
    attributes: Mapping[str, str] = NO_ATTRIBUTES,
    reply: Callable[[StoredScene], Reply] | None = None,
) -> AddResult:
    """Find the people in a picture and store it with them: the one way into a gallery.

    Args:
        content: the file.
        detector: of the generation that answers.
        detector_of: gives the detectors of other models, so that a generation that is being built
            gets the scene, too; without it, that is left to who builds it.
        captured_at: with a time zone.
        reply: as Gallery.add takes it.

    Returns:
        created=False and the stored scene, when these bytes are there already; the detector does
        not run then.

    Raises:
        ImageError: the picture cannot be used.
        GalleryError: as Gallery.add does.
        After either, nothing was stored.
    """
    sha256 = hashlib.sha256(content).hexdigest()
    stored = gallery.scenes.find(sha256)
    if stored is not None:
        if gallery.scenes.mend(sha256, content):
            _log.warning("the original of %s was gone or damaged, and is stored again", stored.id)
        return AddResult(stored, created=False)
    if external_id is not None and gallery.scenes.count(SceneFilter(external_id=external_id)):
        raise ExternalIdConflictError(f"another scene has the external id {external_id!r}")
    image = read_image(content, limits)
    scene = NewScene(
        content,
        sha256,
        image.width,
        image.height,
        image.format,
        image.orientation,
        external_id,
        camera_id,
        captured_at,
        tags,
        attributes,
    )
    while True:
        view = gallery.view()
        people = find_people(image.pixels, _detector(detector, detector_of, view.generation.model))
        further = {}
        building = None if detector_of is None else gallery.generations.building()
        if detector_of is not None and building is not None:
            try:
                further[building.id] = find_people(image.pixels, detector_of(building.model))
            except PersonSearchError as error:  # no reason to refuse the scene
                _log.warning("%s is not indexed by %s yet: %s", sha256, building.model.name, error)
        try:
            return gallery.add(scene, people, view=view, further=further, reply=reply)
        except GenerationSwappedError:
            continue


def find_people(pixels: NDArray[np.uint8], detector: Detector) -> Detections:
    """The people to store of a picture [H, W, 3]: at most MAX_DETECTIONS, the best by score."""
    (people,) = detector.detect([pixels])
    return people.select(np.argsort(-people.scores, kind="stable")[:MAX_DETECTIONS])


@dataclass(frozen=True)
class Outcome:
    """What became of a file: a result, or the error that prevented one."""

    file: ImageFile
    result: AddResult | None
    error: ImageError | ExternalIdConflictError | OSError | None


def ingest(
    paths: Iterable[Path],
    detector: Detector,
    gallery: Gallery,
    *,
    limits: ImageLimits = DEFAULT_LIMITS,
    camera_id: str | None = None,
    tags: tuple[str, ...] = (),
    replace: bool = False,
    found: Found | None = None,
) -> Iterator[Outcome]:
    """Add files and folders, yielding what became of each file once it is stored or given up.

    A picture that cannot be read fails alone. A file that was overwritten is a new scene.

    Args:
        replace: the scene of what an overwritten file was before is removed; else it stays, and
            the new one is called like the file with the beginning of its SHA-256.
        found: what find_images finds in the paths, where that is known.

    Raises:
        GalleryError: the gallery cannot go on, for want of space say; what was yielded is stored.
    """
    for file in (found or find_images(paths, camera_id=camera_id)).files:
        try:
            content = read_file(file.path, limits)
            external_id = free_id(gallery, file.external_id, hashlib.sha256(content).hexdigest())
            result = index_scene(
                content,
                detector,
                gallery,
                limits=limits,
                external_id=external_id,
                camera_id=camera_id,
                tags=tags,
            )
            if replace and result.scene.external_id == external_id != file.external_id:
                take_place(gallery, result.scene.id, file.external_id)
        except (ImageError, ExternalIdConflictError, OSError) as error:
            yield Outcome(file, None, error)
        else:
            yield Outcome(file, result, None)


def read_file(path: Path, limits: ImageLimits) -> bytes:
    """A file that is to be added.

    Raises:
        ImageTooLargeError: it is larger than the limits allow.
        OSError: it cannot be read, or is no file.
    """
    if not path.is_file():  # a pipe would make us wait, a device would not end
        raise FileNotFoundError(f"there is no file {path}")
    size = path.stat().st_size
    if size > limits.max_bytes:
        raise ImageTooLargeError(
            f"expected at most {limits.max_bytes} bytes, got {size}",
            limits={"max_bytes": limits.max_bytes},
        )
    return path.read_bytes()


def _detector(detector: Detector, detector_of: DetectorOf | None, model: GalleryModel) -> Detector:
    if detector_of is None or detector.card.fingerprint == model.fingerprint:
        return detector
    return detector_of(model)  # the model was changed meanwhile
