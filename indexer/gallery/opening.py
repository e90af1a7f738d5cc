"""Opening a gallery: are its directory, model and originals what they should be?"""

import logging
from collections.abc import Iterator, Set
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from indexer.database.opening import open_store
from indexer.database.store import DATABASE, Store
from indexer.errors import GalleryDamagedError, GalleryError, GalleryMismatchError
from indexer.files.object_originals import ObjectOriginals
from indexer.files.objects import Objects
from indexer.files.originals import ORIGINALS, Originals
from indexer.gallery.restoring import finish_restore, has_gallery
from indexer.locks import DirectoryLock
from indexer.records import EVERY_SCENE, GalleryModel
from indexer.rows import audit, erasures, generations, scenes

_log = logging.getLogger(__name__)


def open_originals(directory: Path, url: str | None) -> Originals | ObjectOriginals:
    """A gallery's originals: files in its directory, or in object storage.

    Raises:
        GalleryError: the URL cannot be used.
    """
    return Originals(directory / ORIGINALS) if url is None else ObjectOriginals(Objects(url))


@contextmanager
def usable(directory: Path) -> Iterator[None]:
    """
    Raises:
        GalleryError: in place of an OSError about the directory.
    """
    try:
        yield
    except OSError as error:
        raise GalleryError(f"cannot use {directory} as a gallery: {error.strerror}") from error


def model_in(database: Path | str) -> GalleryModel | None:
    """The model of the active generation in a database; None in one just made."""
    store = open_store(database)
    try:
        with store.read() as connection:
            generation = generations.active(connection)
            return None if generation is None else generation.model
    finally:
        store.close()


def remembered_model(directory: Path, database: str | None = None) -> GalleryModel | None:
    """The model of a gallery, without loading its index; None when there is no gallery.

    Raises:
        GalleryLockedError: it is open, and not in a database that is shared.
    """
    if database is not None:
        return model_in(database)
    if not has_gallery(directory):
        return None
    lock = DirectoryLock(directory)
    try:
        finish_restore(directory)
        return model_in(directory / DATABASE)
    finally:
        lock.release()


def settle_model(
    directory: Path,
    store: Store,
    originals: Originals | ObjectOriginals,
    model: GalleryModel | None,
    *,
    any_model: bool,
) -> None:
    """Begin the first generation, or check that the active one is the model's.

    Args:
        model: whose embeddings come in; None accepts any.
        any_model: whether another model may be active.

    Raises:
        GalleryMismatchError: another model is active.
        GalleryDamagedError: the database does not say which model is active, though it should.
    """
    with store.read() as connection:
        generation = generations.active(connection)
    stored = None if generation is None else generation.model
    if stored is None:
        if model is None:
            raise GalleryDamagedError(f"{directory} does not say whose embeddings it holds")
        if not originals.is_empty():
            # An empty database beside originals is a lost one. Going on would sweep them away.
            raise GalleryDamagedError(
                f"{directory} holds originals, but {DATABASE} is empty: restore it, "
                "or start in an empty directory"
            )
    elif model is None:
        return
    elif (stored.fingerprint, stored.embedding_dim) != (model.fingerprint, model.embedding_dim):
        if any_model:
            return
        raise GalleryMismatchError(
            f"the gallery {directory} holds embeddings of {stored.name} "
            f"({stored.fingerprint[:12]}), not of {model.name} ({model.fingerprint[:12]})"
        )
    if generation is None:
        with store.write() as connection:
            generations.begin(connection, model, "active")
        store.empty_log()  # whatever is lost with a log: whose embeddings these are is not
    elif model != generation.model:
        path = model.path or generation.model.path
        with store.write() as connection:
            generations.name_model(connection, generation.number, replace(model, path=path))


def check_originals(directory: Path, store: Store, originals: Originals | ObjectOriginals) -> None:
    """
    Raises:
        GalleryError: the originals are elsewhere: this process does not share the others'.
    """
    with store.read() as connection:
        some = scenes.page(connection, EVERY_SCENE, 3)
    if store.shared and some and not any(originals.has(scene.sha256) for scene in some):
        raise GalleryError(
            f"the gallery's originals are not where {directory} has them: all processes "
            "that share a database must share them, too"
        )


def sweep(
    directory: Path,
    store: Store,
    originals: Originals | ObjectOriginals,
    *,
    of: Set[str] | None = None,
) -> None:
    """Delete originals that were removed; set aside others without a scene, and say how many.

    To be called while nothing is changed. While another process makes a snapshot, nothing goes.

    Args:
        of: the originals that were stored a while ago; by default those stored now. Then a warning
            tells of scenes without their original, too.
    """
    stored = originals.stored() if of is None else of
    with store.read() as connection:
        wanted = scenes.contents(connection)
        erased = erasures.pending_contents(connection) - wanted
    if not store.originals_held():
        aside = originals.sweep(wanted, erased, of=stored)
        if aside:
            _log.warning(
                "%d originals in %s have no scene, though nobody removed them: they are in "
                "quarantine; `python -m indexer quarantine` lists them",
                aside,
                directory,
            )
            with store.write() as connection:
                audit.record(connection, "originals_set_aside", None, {"files": aside})
    missing = wanted - stored if of is None else set()
    lost = {sha256 for sha256 in missing if not originals.has(sha256)}
    if lost:
        _log.warning("%d originals are gone from %s, %s first", len(lost), directory, min(lost))
