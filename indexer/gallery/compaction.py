"""What removals leave unused, in the index and in the database file, and freeing it."""

from indexer.database import audit
from indexer.gallery.writer import Changes
from indexer.records import Compaction, IndexState

# The index in memory is filled anew, and the database written anew, when so much of it is unused.
UNUSED_SHARE = 0.2
UNUSED_SLOTS = 1_000
UNUSED_BYTES = 2**20


def index_state(changes: Changes) -> IndexState:
    """How much the index and the database hold, and how much of it is unused."""
    live = changes.answering.live
    with changes.store.read() as snapshot:
        entries = audit.entries(snapshot.connection, limit=1, subject="index")
    database_bytes, free_bytes = changes.store.space()
    return IndexState(
        rows=len(live),
        gone=live.gone,
        index_bytes=live.nbytes,
        database_bytes=database_bytes,
        database_free_bytes=free_bytes,
        compacted_at=entries[0].at if entries else None,
    )


def compact(changes: Changes) -> Compaction:
    """Free what removals left: Gallery.compact."""
    before = index_state(changes)
    if not changes.answering.live.outside:  # Milvus does so by itself
        changes.answering.rebuild()
    changes.on_step("refilled")
    wasteful = _is_wasteful(before)
    if wasteful:
        changes.store.vacuum()
    changes.on_step("vacuumed")
    after = index_state(changes)
    compaction = Compaction(
        gone=before.gone - after.gone,
        index_bytes=before.index_bytes - after.index_bytes,
        database_bytes=before.database_bytes - after.database_bytes,
    )
    changes.note("index_compacted", "index", gone=compaction.gone, vacuumed=wasteful)
    return compaction


def is_wanted(state: IndexState) -> bool:
    """Whether so much is unused that compacting is worth it."""
    slots = state.rows + state.gone
    return (state.gone > UNUSED_SLOTS and state.gone > UNUSED_SHARE * slots) or _is_wasteful(state)


def _is_wasteful(state: IndexState) -> bool:
    """Whether the database is smaller when it is written anew."""
    return state.database_free_bytes > max(UNUSED_BYTES, UNUSED_SHARE * state.database_bytes)
