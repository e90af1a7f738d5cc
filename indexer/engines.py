"""Which engine searches a gallery's vectors, by name."""

from collections.abc import Callable

from indexer.errors import GalleryError
from indexer.exact_index import ExactIndex
from indexer.vector_index import VectorIndex


def _faiss_flat(dim: int) -> VectorIndex:
    from indexer.faiss_index import FaissFlatIndex  # only who asks for FAISS needs to have it

    return FaissFlatIndex(dim)


ENGINES: dict[str, Callable[[int], VectorIndex]] = {"exact": ExactIndex, "faiss-flat": _faiss_flat}


def open_index(engine: str, dim: int) -> VectorIndex:
    """An empty index for vectors [N, dim].

    Raises:
        GalleryError: when no engine has this name.
    """
    if engine not in ENGINES:
        raise GalleryError(f"expected an engine of {', '.join(ENGINES)}, got {engine!r}")
    return ENGINES[engine](dim)
