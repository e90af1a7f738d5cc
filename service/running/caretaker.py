"""What a gallery needs now and then, without anybody asking: a thread of its own."""

import threading
import time
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any

from indexer.database.audit import acting_as
from indexer.gallery.gallery import Gallery
from indexer.times import now
from models.errors import PersonSearchError
from service.http.edge import logger
from service.http.fields import utc_text
from service.http.metrics import Metrics

LOOK_S = 60.0  # between two looks at whether an erasure is to be finished, or something compacted
SWEEP_S = 3600.0  # between two looks at what is too old


class Keeper:
    """Deletes what is too old, finishes erasures, compacts.

    Attributes:
        swept_at: when was last looked for what is too old; None before the first time.
        expired: how many images were deleted for their age since the start.
    """

    def __init__(
        self,
        gallery: Gallery,
        metrics: Metrics,
        *,
        retention: Mapping[str, int],
        audit_days: int,
    ) -> None:
        """Start with start.

        Args:
            retention: days that images are kept, by camera; "*" is every other one.
            audit_days: that entries of the audit trail are kept; 0 is for ever.
        """
        self.swept_at: datetime | None = None
        self.expired = 0
        self._gallery = gallery
        self._metrics = metrics
        self._retention = retention
        self._audit_days = audit_days
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="keeper", daemon=True)

    def start(self) -> None:
        """Begin, now and then again and again."""
        self._thread.start()

    def close(self, wait_s: float) -> None:
        """Begin nothing more, and wait for what runs, at most so long."""
        self._stopping.set()
        self._thread.join(wait_s)

    def state(self) -> dict[str, Any]:
        """For /health; without names of cameras, for that is open to everybody."""
        return {
            "on": bool(self._retention),
            "swept_at": None if self.swept_at is None else utc_text(self.swept_at),
            "expired": self.expired,
        }

    def sweep(self) -> None:
        """Delete what is too old."""
        at = now()
        if self._retention:
            removed = self._gallery.expire(self._retention, at, stop=self._stopping.is_set)
            self.expired += removed
            self._metrics.expired.inc(removed)
            if removed:
                logger.info("%d images were too old and are deleted", removed)
        if self._audit_days:
            with acting_as("(retention)"):
                self._gallery.trim_trail(at - timedelta(days=self._audit_days))
        self.swept_at = at

    def look(self) -> None:
        """Finish what is to be finished, and compact what is worth it."""
        self._gallery.finish_erasures()
        building = self._gallery.building()
        unfinished = self._gallery.jobs.page(
            limit=1, states=("queued", "running"), kinds=("reindex",)
        )
        if building is not None and not unfinished.jobs:
            self._gallery.keep_generation(building.id)  # whoever built it has given up
        if self._gallery.wants_compaction:
            with acting_as("(automatic)"):
                freed = self._gallery.compact()
            logger.info("compacted: %d places, %d bytes", freed.gone, freed.database_bytes)

    def _run(self) -> None:
        sweep_at = 0.0
        self._try(self._gallery.sweep_originals)
        while not self._stopping.is_set():
            if time.monotonic() >= sweep_at:
                sweep_at = time.monotonic() + SWEEP_S
                self._try(self.sweep)
            self._try(self.look)
            self._stopping.wait(LOOK_S)

    def _try(self, work: Callable[[], None]) -> None:
        try:
            work()
        except PersonSearchError as error:
            logger.warning("%s; trying again later", error)
        except Exception:  # of the database, say; this thread must live on
            logger.exception("keeping the gallery failed; trying again later")
