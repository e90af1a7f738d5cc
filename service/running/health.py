"""The state of the service: what readiness depends on, and gauges."""

import time
from dataclasses import replace

from indexer.gallery.gallery import Gallery
from indexer.records import GalleryStats
from models.image import given_up
from service.http.keys import Keys
from service.running.detectors import Detectors
from service.running.disk import Disk
from service.running.jobs import JobRunner
from service.running.worker import Lane, Worker

INDEX_WAIT_S = 1.0
MOST_GIVEN_UP = 2  # decoders that nobody waits for any more, each with a core and its memory


class Health:
    """Looks at the parts of a running service."""

    def __init__(
        self,
        gallery: Gallery,
        detectors: Detectors,
        worker: Worker,
        jobs: JobRunner,
        disk: Disk,
        keys: Keys,
        *,
        stuck_s: float,
    ) -> None:
        """
        Args:
            stuck_s: a single piece of work that takes longer is stuck.
        """
        self._gallery = gallery
        self._detectors = detectors
        self._worker = worker
        self._jobs = jobs
        self._disk = disk
        self._keys = keys
        self._stuck_s = stuck_s
        self._started = time.monotonic()

    @property
    def uptime_s(self) -> float:
        """Since the start."""
        return time.monotonic() - self._started

    def checks(self) -> dict[str, dict[str, object]]:
        """What readiness depends on, each with "ok"."""
        stats = self._stats_with_index()
        answering = self._detectors.of(self._gallery.model)
        free, floor = self._disk.free()
        busy_s = self._worker.busy_s
        return {
            "model": {
                "ok": self._worker.alive and busy_s < self._stuck_s,
                "name": answering.card.name,
                "busy_s": round(busy_s, 1),
            },
            "decoding": {"ok": given_up() < MOST_GIVEN_UP, "given_up": given_up()},
            "index": {
                "ok": stats.index_change >= stats.last_change,
                "done": stats.index_change,
                "total": stats.last_change,
            },
            "jobs": {"ok": self._jobs.alive, "waiting": self._gallery.jobs.waiting()},
            "keys": {"ok": self._keys.problem() is None},
            "disk": {"ok": free >= floor, "free_bytes": free, "floor_bytes": floor},
        }

    def quarantine(self) -> dict[str, int]:
        """Originals that were set aside, for no image has them; see `python -m indexer`."""
        room = self._gallery.quarantine
        return {"files": room.files, "bytes": room.nbytes}

    def _stats_with_index(self) -> GalleryStats:
        """Counts as of now, and how far the index has come of that a moment later.

        Every change is committed first and indexed next. An index is behind when it does not get
        there; while images are added it is always on its way.
        """
        stats = self._gallery.stats()
        ends = time.monotonic() + INDEX_WAIT_S
        now = stats
        while now.index_change < stats.last_change and time.monotonic() < ends:
            time.sleep(0.005)
            now = self._gallery.stats()
        return replace(stats, index_change=now.index_change)

    def gauges(self) -> dict[str, tuple[str, float]]:
        """Current values, for /metrics."""
        stats = self._gallery.stats()
        prefix = "person_search_"
        return {
            f"{prefix}images": ("Images stored.", stats.scenes),
            f"{prefix}detections": ("Detections stored.", stats.detections),
            f"{prefix}originals_bytes": ("Size of the stored files.", stats.originals_bytes),
            f"{prefix}quarantine_files": (
                "Originals without an image, set aside.",
                self._gallery.quarantine.files,
            ),
            f"{prefix}index_lag": (
                "Committed changes that the index does not hold yet.",
                stats.last_change - stats.index_change,
            ),
            f"{prefix}search_waiting": ("Searches waiting.", self._worker.waiting(Lane.SEARCH)),
            f"{prefix}ingest_waiting": ("Images waiting.", self._worker.waiting(Lane.INGEST)),
            f"{prefix}jobs_waiting": ("Jobs waiting.", self._gallery.jobs.waiting()),
            f"{prefix}disk_free_bytes": ("Free space for the gallery.", self._disk.free()[0]),
        }
