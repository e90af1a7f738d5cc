"""What a running service is made of, put together once and closed in order."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from indexer.errors import GalleryMismatchError
from indexer.gallery.gallery import Gallery
from indexer.ingest.reindex import reindex
from indexer.search.query import PersonSearch
from models.detector import Detector
from models.errors import ModelFileError
from service.http.edge import logger
from service.http.idempotency import Idempotency
from service.http.keys import Keys
from service.http.metrics import Metrics
from service.running.caretaker import Caretaker
from service.running.detectors import Detectors, warm_up
from service.running.disk import Disk
from service.running.health import Health
from service.running.jobs import JobKind, JobRunner
from service.running.previews import Previews
from service.running.spool import Spool
from service.running.turns import Turns
from service.running.worker import Lane, Worker
from service.settings import Settings, SettingsError

DECODED_AT_ONCE = 2
PICTURES_AT_ONCE = 64  # waited for, made, or sent: a full one takes some megabytes until it is gone


@dataclass(frozen=True)
class Parts:
    """What a running service is made of; routes and jobs take from it what they use.

    Attributes:
        detectors: the models; `detector` is that of the active generation.
        idempotency: of requests that may be sent again.
        previews: of erasures that may still be executed.
        pictures: turns of those who want a picture from outside the worker.
    """

    settings: Settings
    keys: Keys
    detectors: Detectors
    gallery: Gallery
    worker: Worker
    search: PersonSearch
    jobs: JobRunner
    caretaker: Caretaker
    disk: Disk
    health: Health
    metrics: Metrics
    idempotency: Idempotency
    previews: Previews = field(default_factory=Previews)
    pictures: Turns = field(
        default_factory=lambda: Turns(at_once=DECODED_AT_ONCE, places=PICTURES_AT_ONCE)
    )

    @property
    def detector(self) -> Detector:
        """The model of the active generation."""
        return self.detectors.of(self.gallery.model)


# What a service's jobs are to be able to do: the work of each kind, by name.
JobKinds = Callable[[Parts], Mapping[str, JobKind]]


@contextmanager
def open_parts(
    settings: Settings,
    detectors: Sequence[Detector],
    metrics: Metrics,
    kinds: JobKinds,
) -> Iterator[Parts]:
    """Open the gallery, load its model, run one inference, take up jobs; close all at the end.

    Args:
        detectors: loaded models; the first one is for a new gallery.
        kinds: of jobs that can be run.

    Raises:
        PersonSearchError: of settings, model or gallery, with a message for the operator.
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
            disk = Disk(settings.data_dir, floor_bytes=settings.disk_floor_mib * 2**20)
            jobs = JobRunner(
                gallery.jobs,
                gallery.replies,
                Spool(settings.data_dir / "spool", settings.originals_url),
                worker,
                disk,
                metrics,
                shared=gallery.shared,
                most_waiting=settings.job_queue_max,
                drain_s=settings.drain_s,
            )
            parts = Parts(
                settings=settings,
                keys=keys,
                detectors=models,
                gallery=gallery,
                worker=worker,
                search=search,
                jobs=jobs,
                caretaker=Caretaker(
                    gallery, metrics, retention=settings.retention, audit_days=settings.audit_days
                ),
                disk=disk,
                health=Health(
                    gallery, models, worker, jobs, disk, keys, stuck_s=settings.search_deadline_s
                ),
                metrics=metrics,
                idempotency=Idempotency(gallery.replies),
            )
            metrics.watch(parts.health.gauges)
            card = detector.card
            logger.info("ready: model %s, %d images", card.name, gallery.scenes.count())
            logger.info("terms of model %s: %s", card.name, card.terms)
            jobs.start(kinds(parts))
            parts.caretaker.start()
            try:
                yield parts
            finally:
                jobs.close()
                parts.caretaker.close(settings.drain_s)
        finally:
            worker.close(settings.drain_s)


def settle_model(gallery: Gallery, models: Detectors) -> Detector:
    """The detector of the active generation; an empty gallery changes to the model of the settings.

    Raises:
        GalleryMismatchError: the gallery's model cannot be found.
    """
    wanted, answering = models.first, gallery.model
    if answering.fingerprint != wanted.card.fingerprint:
        if not gallery.scenes.count():
            before = gallery.view().generation
            reindex(gallery, wanted.of_gallery, models.of)
            gallery.generations.delete(before.id)
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
