"""Which engine searches a gallery's vectors, by name."""

from collections.abc import Callable
from dataclasses import dataclass

from indexer.errors import GalleryError
from indexer.index.exact import ExactIndex
from indexer.index.vector_index import VectorIndex
from models.packages import how_to_install


def _faiss_flat(dim: int) -> VectorIndex:
    from indexer.index.faiss_flat import FaissFlatIndex  # only needed with this engine

    return FaissFlatIndex(dim)


ENGINES: dict[str, Callable[[int], VectorIndex]] = {"exact": ExactIndex, "faiss-flat": _faiss_flat}


# Engines outside of this process (indexer/index/milvus.py), and the kind of index there. FLAT
# compares with everybody, and is exact; HNSW with some, and finds nearly all of the nearest.
OUTSIDE = {"milvus-flat": "FLAT", "milvus-hnsw": "HNSW"}


@dataclass(frozen=True)
class MilvusServer:
    """Where a Milvus is: http://host:19530, and user:password or a token where it asks for one."""

    uri: str
    token: str | None = None


def check_engine(engine: str, milvus: MilvusServer | None) -> None:
    """
    Raises:
        GalleryError: when no engine has this name, or what it needs is not there.
    """
    if engine not in {**ENGINES, **OUTSIDE}:
        known = ", ".join([*ENGINES, *OUTSIDE])
        raise GalleryError(f"expected an engine of {known}, got {engine!r}")
    if engine in OUTSIDE and milvus is None:
        raise GalleryError(f"the engine {engine} needs the address of a Milvus server")
    if engine in OUTSIDE:
        try:
            import pymilvus  # noqa: F401
        except ImportError:
            raise GalleryError(f"Milvus needs pymilvus: {how_to_install('pymilvus')}") from None


def open_index(engine: str, dim: int) -> VectorIndex:
    """An empty index for vectors [N, dim].

    Raises:
        GalleryError: when no engine has this name.
    """
    if engine not in ENGINES:
        raise GalleryError(f"expected an engine of {', '.join(ENGINES)}, got {engine!r}")
    return ENGINES[engine](dim)
