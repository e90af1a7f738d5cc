"""The models that the service can answer with: found by name, loaded when they are needed."""

import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from indexer.records import GalleryModel
from models.detector import SHIPPED_MODELS, Detector, OnnxDetector
from models.errors import ModelFileError
from models.model_card import CARD_NAME, ModelCard, load_card
from service.http.edge import logger
from service.http.errors import RequestError

WARM_UP_SIZES = ((480, 640), (640, 480))


@dataclass(frozen=True)
class KnownModel:
    """A model that can be used.

    Attributes:
        name: of its directory; requests use it.
        path: its directory; None for a model that is part of the package.
    """

    name: str
    card: ModelCard
    path: Path | None

    @property
    def of_gallery(self) -> GalleryModel:
        """As a gallery stores it."""
        path = None if self.path is None else str(self.path.absolute())
        return GalleryModel(self.card.name, self.card.fingerprint, self.card.embedding_dim, path)


class Detectors:
    """Models by fingerprint; a loaded one stays loaded. Any thread may call anything."""

    def __init__(
        self,
        model: Path,
        models_dir: Path | None,
        *,
        given: Sequence[Detector] = (),
        threads: int = 0,
        device: str = "cpu",
    ) -> None:
        """
        Args:
            model: directory of the model for a new gallery.
            models_dir: a directory of model directories.
            given: detectors that are loaded already; the first takes the place of model.

        Raises:
            ModelFileError: the model for a new gallery cannot be read.
        """
        self._model = model
        self._models_dir = models_dir
        self._given = [KnownModel(one.card.name, one.card, None) for one in given]
        self._threads = threads
        self._device = device
        self._loading = threading.Lock()
        self._loaded = {one.card.fingerprint: one for one in given}
        self.first = self._given[0] if given else _known(model)

    def known(self) -> list[KnownModel]:
        """All models that there are now, each once; unreadable ones are logged and left out."""
        found = {one.card.fingerprint: one for one in [self.first, *self._given]}
        for directory in self._directories():
            try:
                one = _known(directory)
            except ModelFileError as error:
                logger.warning("%s", error)
                continue
            found.setdefault(one.card.fingerprint, one)
        return list(found.values())

    def find(self, name: str) -> KnownModel:
        """The model with this name, name on its card, or SHA-256.

        Raises:
            RequestError: not_found.
        """
        known = self.known()
        for one in known:
            if name in (one.name, one.card.fingerprint):
                return one
        for one in known:
            if name == one.card.name:
                return one
        raise RequestError("not_found", f"There is no model {name}.")

    def of(self, model: GalleryModel) -> Detector:
        """The detector of a generation's model; loading one takes seconds.

        Raises:
            ModelFileError: it was not found, or is damaged.
        """
        loaded = self._loaded.get(model.fingerprint)
        if loaded is not None:
            return loaded
        with self._loading:
            if model.fingerprint not in self._loaded:
                self._loaded[model.fingerprint] = OnnxDetector(
                    self._path_of(model), threads=self._threads, device=self._device
                )
            return self._loaded[model.fingerprint]

    def _path_of(self, model: GalleryModel) -> Path:
        for one in self.known():
            if one.card.fingerprint == model.fingerprint:
                return one.path or SHIPPED_MODELS / one.name
        if model.path is not None and (Path(model.path) / CARD_NAME).is_file():
            remembered = _known(Path(model.path))
            if remembered.card.fingerprint == model.fingerprint:
                return Path(model.path)
        raise ModelFileError(
            f"the model {model.name} ({model.fingerprint[:12]}) is nowhere to be found: put its "
            "directory where PERSON_SEARCH_MODELS_DIR points to"
        )

    def _directories(self) -> Iterator[Path]:
        if not self._given:
            yield self._model
        for folder in (SHIPPED_MODELS, self._models_dir):
            if folder is not None and folder.is_dir():
                yield from sorted(path.parent for path in folder.glob(f"*/{CARD_NAME}"))


class TimedDetector:
    """A detector that remembers when it ran."""

    def __init__(self, detector: Detector) -> None:
        self.card = detector.card
        self.embed = detector.embed
        self.embed_crop = detector.embed_crop
        self._detector = detector
        self._times: list[float] = []

    def detect(self, images: Sequence[Any]) -> list[Any]:
        """As the detector does."""
        self._times.append(time.monotonic())
        found = self._detector.detect(images)
        self._times.append(time.monotonic())
        return found

    def timings(self, queue_ms: float, run_ms: float) -> dict[str, float]:
        """Milliseconds of waiting, of the model, and of the rest: reading and storing."""
        infer = (self._times[-1] - self._times[0]) * 1e3 if self._times else 0.0
        parts = {"queue": queue_ms, "infer": infer, "decode_and_store": run_ms - infer}
        return {name: round(value, 1) for name, value in parts.items()}


def warm_up(detector: Detector) -> None:
    """Run every graph once, so that the first request does not pay for it."""
    for height, width in WARM_UP_SIZES:
        picture = np.full((height, width, 3), 127, np.uint8)
        detector.detect([picture])
    detector.embed_crop(picture)


def _known(directory: Path) -> KnownModel:
    path = None if directory.parent == SHIPPED_MODELS else directory
    return KnownModel(directory.name, load_card(directory), path)
