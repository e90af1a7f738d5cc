"""Upkeep that nobody asks for, on a thread of its own: retention, erasures, compaction."""

import threading
import time
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any

from indexer.gallery.gallery import Gallery
from indexer.rows.audit import acting_as
from indexer.times import now
from models.errors import PersonSearchError
from service.http.edge import logger
from service.http.fields import utc_text
from service.http.metrics import Metrics

LOOK_S = 60.0  # between two looks at whether an erasure is to be finished, or something compacted
SWEEP_S = 3600.0  # between two looks at what is too old


class Caretaker:
    """Deletes images past their retention, finishes erasures, compacts.

    Attributes:
        swept_at: when old images were last looked for; None before the first time.
        expired: images deleted for their age since the start.
    """

    def __init__(
        self,
        gallery: Gallery,
        metrics: Metrics,
        *,
        retention: Mapping[str, int],
        audit_days: int,
    ) -> None:
        """Call `start()` to begin.

        Args:
            retention: days that images stay, by camera; "*" is every other one.
            audit_days: days that entries of the audit trail stay; 0 is for ever.
        """
        self.swept_at: datetime | None = None
        self.expired = 0
        self._gallery = gallery
        self._metrics = metrics
        self._retention = retention
        self._audit_days = audit_days
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="caretaker", daemon=True)

    def start(self) -> None:
        """Begin: the first look at once, then one every minute."""
        self._thread.start()

    def close(self, wait_s: float) -> None:
        """Begin nothing more, and wait at most `wait_s` for what runs."""
        self._stopping.set()
        self._thread.join(wait_s)

    def state(self) -> dict[str, Any]:
        """For /health, which is open to everybody: without names of cameras."""
        return {
            "on": bool(self._retention),
            "swept_at": None if self.swept_at is None else utc_text(self.swept_at),
            "expired": self.expired,
        }

    def sweep(self) -> None:
        """Delete images and audit entries that are too old."""
        at = now()
        if self._retention:
            removed = self._gallery.upkeep.expire(self._retention, at, stop=self._stopping.is_set)
            self.expired += removed
            self._metrics.expired.inc(removed)
            if removed:
                logger.info("%d images were too old and are deleted", removed)
        if self._audit_days:
            with acting_as("(retention)"):
                self._gallery.trail.trim(at - timedelta(days=self._audit_days))
        self.swept_at = at

    def look(self) -> None:
        """Finish erasures, end abandoned generations, compact where it is worth it."""
        self._gallery.erasures.finish_all()
        self._gallery.quarantine.look()
        building = self._gallery.generations.building()
        unfinished = self._gallery.jobs.page(
            limit=1, states=("queued", "running"), kinds=("reindex",)
        )
        if building is not None and not unfinished.jobs:
            self._gallery.generations.park(building.id)  # whoever built it has given up
        if self._gallery.upkeep.wants_compaction:
            with acting_as("(automatic)"):
                freed = self._gallery.upkeep.compact()
            logger.info("compacted: %d places, %d bytes", freed.gone, freed.database_bytes)

    def _run(self) -> None:
        sweep_at = 0.0
        self._try(self._gallery.upkeep.sweep_originals)
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
            logger.exception("upkeep failed; trying again later")
