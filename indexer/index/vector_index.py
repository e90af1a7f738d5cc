"""What every engine can do."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Hits:
    """Answers to some queries, nearest first.

    Attributes:
        ids: [Q, k] int64; −1 where there was no further vector.
        similarities: [Q, k] float32 inner products; −inf where the id is −1.
    """

    ids: NDArray[np.int64]
    similarities: NDArray[np.float32]


class VectorIndex(Protocol):
    """Vectors by number, searched by inner product.

    Ids are row numbers: never negative, given once, and dense enough that an array may be as long
    as the largest. Any number of searches may run at once, or one change; the caller keeps them
    apart.
    """

    def __len__(self) -> int:
        """How many vectors there are."""

    @property
    def nbytes(self) -> int:
        """Bytes of memory that the vectors and their bookkeeping take."""

    def ids(self) -> NDArray[np.int64]:
        """The ids held, ascending."""

    def add(self, ids: NDArray[np.int64], vectors: NDArray[np.float32]) -> None:
        """Add vectors [N, D] under ids [N].

        Raises:
            ValueError: an id is there already; nothing was added.
        """

    def remove(self, ids: NDArray[np.int64]) -> None:
        """Remove these ids; unknown ones are passed over."""

    def search(
        self, queries: NDArray[np.float32], k: int, allowed: NDArray[np.bool_] | None = None
    ) -> Hits:
        """The k vectors with the largest inner product with each query, exactly.

        Args:
            queries: [Q, D].
            k: at least 1; may be more than there are vectors.
            allowed: only ids with allowed[id] are searched; ids beyond its end are not allowed.

        Returns:
            Equal similarities are ordered by id; which of them are cut off at k is not defined.
        """
