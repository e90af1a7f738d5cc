"""What a running service is made of, put together once and closed in order."""

import logging
import shutil
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from importlib.metadata import PackageNotFoundError, version

import numpy as np

from indexer.errors import GalleryMismatchError, StorageFullError
from indexer.gallery.gallery import Gallery, View
from indexer.ingest.reindex import reindex
from indexer.records import GalleryStats
from models.detector import Detector
from models.errors import ModelFileError
from service.http.idempotency import RunningRequests
from service.http.keys import Keys
from service.http.metrics import Metrics
from service.running.caretaker import Keeper
from service.running.detectors import Detectors
from service.running.jobs import JobKind, JobRunner
from service.running.spool import Spool
from service.running.worker import Lane, Worker
from service.search.search import PersonSearch
from service.settings import Settings, SettingsError
from service.upkeep.erasing import Previews

DECODED_AT_ONCE = 2
DISK_FLOOR_SHARE = 0.05
INDEX_WAIT_S = 1.0
WARM_UP_SIZES = ((480, 640), (640, 480))

logger = logging.getLogger("service")


@dataclass(frozen=True)
class Parts:
    """Everything that routes use.

    Attributes:
        patching: held while an image's metadata is compared and changed.
        decoding: bounds how many pictures are decoded at once outside the worker.
        requests: those with an Idempotency-Key that are being answered.
        previews: of erasures, that may be executed.
        detectors: the models; detector is that of the generation that answers.
    """

    settings: Settings
    keys: Keys
    detectors: Detectors
    gallery: Gallery
    worker: Worker
    search: PersonSearch
    jobs: JobRunner
    keeper: Keeper
    metrics: Metrics
    started_at: float = field(default_factory=time.monotonic)
    patching: threading.Lock = field(default_factory=threading.Lock)
    decoding: threading.Semaphore = field(
        default_factory=lambda: threading.Semaphore(DECODED_AT_ONCE)
    )
    requests: RunningRequests = field(default_factory=RunningRequests)
    previews: Previews = field(default_factory=Previews)

    @property
    def detector(self) -> Detector:
        """Of the generation that answers now."""
        return self.detectors.of(self.gallery.model)

    @property
    def index(self) -> dict[str, str]:
        """The generation that answers now, as responses name it."""
        return index_of(self.gallery.view())

    def free_disk(self) -> tuple[int, int]:
        """Bytes free where the gallery is, and how many must stay free for writes to go on."""
        usage = shutil.disk_usage(self.settings.data_dir)
        floor = min(self.settings.disk_floor_mib * 2**20, int(usage.total * DISK_FLOOR_SHARE))
        return usage.free, floor

    def check_disk(self) -> None:
        """Refuse writes on a full disk.

        Raises:
            StorageFullError: less is free than the floor.
        """
        free, floor = self.free_disk()
        if free < floor:
            raise StorageFullError(
                f"{free // 2**20} MiB are free on the disk; writes need {floor // 2**20} MiB."
            )

    def checks(self) -> dict[str, dict[str, object]]:
        """What readiness depends on, each with "ok"."""
        stats = self._stats_with_index()
        free, floor = self.free_disk()
        return {
            "model": {"ok": self.worker.alive, "name": self.detector.card.name},
            "index": {
                "ok": stats.index_change >= stats.last_change,
                "done": stats.index_change,
                "total": stats.last_change,
            },
            "jobs": {"ok": self.jobs.alive, "waiting": self.gallery.jobs.waiting()},
            "disk": {"ok": free >= floor, "free_bytes": free, "floor_bytes": floor},
        }

    def _stats_with_index(self) -> GalleryStats:
        """Counts as of now, and how far the index has come of that a moment later.

        Every change is committed first and indexed next. An index is behind when it does not get
        there; while images are added it is always on its way.
        """
        stats = self.gallery.stats()
        ends = time.monotonic() + INDEX_WAIT_S
        now = stats
        while now.index_change < stats.last_change and time.monotonic() < ends:
            time.sleep(0.005)
            now = self.gallery.stats()
        return replace(stats, index_change=now.index_change)

    def gauges(self) -> dict[str, tuple[str, float]]:
        """Numbers of the moment, for /metrics."""
        stats = self.gallery.stats()
        prefix = "person_search_"
        return {
            f"{prefix}images": ("Images stored.", stats.scenes),
            f"{prefix}detections": ("Detections stored.", stats.detections),
            f"{prefix}originals_bytes": ("Size of the stored files.", stats.originals_bytes),
            f"{prefix}index_lag": (
                "Committed changes that the index does not hold yet.",
                stats.last_change - stats.index_change,
            ),
            f"{prefix}search_waiting": ("Searches waiting.", self.worker.waiting(Lane.SEARCH)),
            f"{prefix}ingest_waiting": ("Images waiting.", self.worker.waiting(Lane.INGEST)),
            f"{prefix}jobs_waiting": ("Jobs waiting.", self.gallery.jobs.waiting()),
            f"{prefix}disk_free_bytes": ("Free space for the gallery.", self.free_disk()[0]),
        }


@contextmanager
def open_parts(
    settings: Settings,
    detectors: Sequence[Detector],
    metrics: Metrics,
    kinds: Mapping[str, JobKind],
) -> Iterator[Parts]:
    """Open the gallery, load its model, run one inference, take up jobs; close all at the end.

    Args:
        detectors: that are loaded already; the first one is for a new gallery.
        kinds: of jobs that can be run, by name.

    Raises:
        PersonSearchError: of settings, model or gallery, with a message for who starts this.
        OSError: the data directory cannot be used.
    """
    given_keys = settings.read_keys()
    if settings.import_dir is not None and not settings.import_dir.is_dir():
        raise SettingsError(f"import_dir: {settings.import_dir} is not a directory")
    if settings.models_dir is not None and not settings.models_dir.is_dir():
        raise SettingsError(f"models_dir: {settings.models_dir} is not a directory")
    models = Detectors(
        settings.model,
        settings.models_dir,
        given=detectors,
        threads=settings.threads,
        device=settings.device,
    )
    card = models.first.card
    with Gallery.open_(
        settings.data_dir,
        model_name=card.name,
        model_fingerprint=card.fingerprint,
        embedding_dim=card.embedding_dim,
        model_path=models.first.path,
        engine=settings.engine,
        snapshots=settings.snapshot_dir,
        any_model=True,
        database=settings.database,
        originals=settings.originals_url,
        milvus=settings.milvus,
    ) as gallery:
        keys = Keys(given_keys, settings.data_dir)
        detector = settle_model(gallery, models)
        worker = Worker(search_max=settings.search_queue_max, ingest_max=settings.ingest_queue_max)
        try:
            worker.submit(Lane.SEARCH, lambda: warm_up(detector)).result()
            search = PersonSearch(models.of, gallery, limits=settings.image_limits)
            jobs = JobRunner(
                gallery.jobs,
                gallery.replies,
                Spool(settings.data_dir / "spool", settings.originals_url),
                kinds,
                shared=gallery.shared,
                most_waiting=settings.job_queue_max,
                drain_s=settings.drain_s,
            )
            keeper = Keeper(
                gallery, metrics, retention=settings.retention, audit_days=settings.audit_days
            )
            parts = Parts(settings, keys, models, gallery, worker, search, jobs, keeper, metrics)
            metrics.watch(parts.gauges)
            card = detector.card
            logger.info("ready: model %s, %d images", card.name, gallery.count())
            logger.info("terms of model %s: %s", card.name, card.terms)
            jobs.start(parts)
            keeper.start()
            try:
                yield parts
            finally:
                jobs.close()
                keeper.close(settings.drain_s)
        finally:
            worker.close()


def settle_model(gallery: Gallery, models: Detectors) -> Detector:
    """The detector of what a gallery answers with; an empty one is given the model of the settings.

    Raises:
        GalleryMismatchError: the gallery's model cannot be found.
    """
    wanted, answering = models.first, gallery.model
    if answering.fingerprint != wanted.card.fingerprint:
        if not gallery.count():
            before = gallery.view().generation
            reindex(gallery, wanted.of_gallery, models.of)
            gallery.delete_generation(before.id)
        else:
            logger.warning(
                "the gallery answers with its model %s, not with %s; to change it: "
                "POST /models/%s/reindex",
                answering.name,
                wanted.card.name,
                wanted.name,
            )
    try:
        return models.of(gallery.model)
    except ModelFileError as error:
        raise GalleryMismatchError(f"the gallery cannot answer: {error}") from error


def index_of(view: View) -> dict[str, str]:
    """A generation, as responses name it."""
    model = view.generation.model
    return {
        "generation": view.generation.id,
        "model": model.name,
        "model_sha256": model.fingerprint,
    }


def warm_up(detector: Detector) -> None:
    """Run every graph once, so that the first request does not pay for it."""
    for height, width in WARM_UP_SIZES:
        picture = np.full((height, width, 3), 127, np.uint8)
        detector.detect([picture])
    detector.embed_crop(picture)


def service_version() -> str:
    """Of the installed package; "unknown" when it runs from a folder without being installed."""
    try:
        return version("nae-search")
    except PackageNotFoundError:
        return "unknown"
