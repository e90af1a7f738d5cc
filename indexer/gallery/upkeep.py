"""Upkeep of a gallery: scenes that are too old go, and what removals leave unused is freed."""

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta

from indexer.files.object_originals import ObjectOriginals
from indexer.gallery.opening import sweep
from indexer.gallery.quarantine import Quarantine
from indexer.gallery.trail import Trail
from indexer.gallery.writer import Writer
from indexer.records import Compaction, IndexState
from indexer.rows import audit
from indexer.rows.audit import acting_as
from indexer.rows.retention import expired, is_expired

# The index in memory is filled anew, and the database written anew, when so much of it is unused.
UNUSED_SHARE = 0.2
UNUSED_SLOTS = 1_000
UNUSED_BYTES = 2**20
EXPIRED_AT_ONCE = 500


class Upkeep:
    """What is done now and then, as gallery.upkeep."""

    def __init__(
        self,
        writer: Writer,
        trail: Trail,
        quarantine: Quarantine,
        remove: Callable[[str], None],
    ) -> None:
        self._writer = writer
        self._trail = trail
        self._quarantine = quarantine
        self._remove = remove  # Gallery.remove

    def index_state(self) -> IndexState:
        """How much the index and the database hold, and how much of it is unused."""
        live = self._writer.index.live
        with self._writer.store.read() as connection:
            entries = audit.entries(connection, limit=1, subject="index")
        database_bytes, free_bytes = self._writer.store.space()
        return IndexState(
            rows=len(live),
            gone=live.gone,
            index_bytes=live.nbytes,
            database_bytes=database_bytes,
            database_free_bytes=free_bytes,
            compacted_at=entries[0].at if entries else None,
        )

    @property
    def wants_compaction(self) -> bool:
        """Whether so much is unused that compacting is worth it."""
        state = self.index_state()
        slots = state.rows + state.gone
        mostly_gone = state.gone > UNUSED_SLOTS and state.gone > UNUSED_SHARE * slots
        return mostly_gone or _is_wasteful(state)

    def compact(self) -> Compaction:
        """Free what removals left: empty places of the index, unused space of the database file.

        A new index is filled beside the one in use, so its memory is needed twice for a moment.
        Searches and changes go on; changes wait only while the database is written anew.

        Raises:
            StorageFullError: there is no space to write the database anew.
        """
        writer = self._writer
        with writer.exclusive:
            before = self.index_state()
            if not writer.index.live.outside:  # Milvus does so by itself
                writer.index.rebuild()
            writer.on_step("refilled")
            wasteful = _is_wasteful(before)
            if wasteful:
                writer.store.vacuum()
            writer.on_step("vacuumed")
            after = self.index_state()
            compaction = Compaction(
                gone=before.gone - after.gone,
                index_bytes=before.index_bytes - after.index_bytes,
                database_bytes=before.database_bytes - after.database_bytes,
            )
            self._trail.note("index_compacted", "index", gone=compaction.gone, vacuumed=wasteful)
            return compaction

    def expire(
        self, days: Mapping[str, int], at: datetime, *, stop: Callable[[], bool] = lambda: False
    ) -> int:
        """Remove the scenes that are older than their camera allows.

        Args:
            days: how long scenes stay, by camera; "*" is every other camera, and none.
            at: the time now. A scene's age counts from captured_at or else created_at.
            stop: asked before each scene whether to stop here.

        Returns:
            How many were removed. What is in quarantine, and older than any camera allows, is
            deleted, too: which camera took it is not known.
        """
        removed = 0
        with acting_as("(retention)"):
            if "*" in days:
                before = at - timedelta(days=max(days.values()))
                old = [one.sha256 for one in self._quarantine.look() if one.stored_at < before]
                if old:
                    self._quarantine.remove(old)
            while True:
                with self._writer.store.read() as connection:
                    found = expired(connection, days, at, EXPIRED_AT_ONCE)
                for id in found:
                    if stop():
                        return removed
                    with self._writer.changing():
                        # Its camera or time may have been changed meanwhile.
                        with self._writer.store.read() as connection:
                            still = is_expired(connection, days, at, id)
                        if still:
                            self._remove(id)
                            removed += 1
                if len(found) < EXPIRED_AT_ONCE:
                    return removed

    def sweep_originals(self) -> None:
        """In object storage, delete or set aside originals without a scene.

        It lists them all, which takes time. (Files are swept when the gallery is opened.)
        """
        originals = self._writer.originals
        if isinstance(originals, ObjectOriginals):
            stored = originals.stored()
            with self._writer.changing():
                sweep(self._writer.directory, self._writer.store, originals, of=stored)
            self._quarantine.look()


def _is_wasteful(state: IndexState) -> bool:
    """Whether the database is smaller when it is written anew."""
    return state.database_free_bytes > max(UNUSED_BYTES, UNUSED_SHARE * state.database_bytes)
