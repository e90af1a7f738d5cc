"""The people found in one scene: arrays that travel together and are checked once."""

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Detections:
    """People found in one scene.

    Attributes:
        boxes: [N, 4] float32, x1 y1 x2 y2 in pixels of the original picture.
        scores: [N] float32 detection scores in [0, 1].
        embeddings: [N, D] float32, unit length rows.

    Raises:
        ValueError: when shapes, types or ranges do not fit; a fault of the code, not of an input.
    """

    boxes: NDArray[np.float32]
    scores: NDArray[np.float32]
    embeddings: NDArray[np.float32]

    def __post_init__(self) -> None:
        count = len(self.boxes)
        if self.boxes.shape != (count, 4) or self.scores.shape != (count,):
            raise ValueError(
                f"expected boxes [N, 4] and scores [N], got {self.boxes.shape}, {self.scores.shape}"
            )
        if self.embeddings.ndim != 2 or len(self.embeddings) != count:
            raise ValueError(f"expected embeddings [{count}, D], got {self.embeddings.shape}")
        for array in (self.boxes, self.scores, self.embeddings):
            if array.dtype != np.float32 or not np.isfinite(array).all():
                raise ValueError("expected finite float32 arrays")
        if count and (self.scores.min() < 0 or self.scores.max() > 1):
            raise ValueError("expected scores in [0, 1]")
        lengths = np.linalg.norm(self.embeddings, axis=1)
        if not np.allclose(lengths, 1, atol=1e-3):
            raise ValueError("expected embeddings of unit length")

    @classmethod
    def empty(cls, embedding_dim: int) -> Self:
        """Nobody."""
        return cls(
            np.zeros((0, 4), np.float32),
            np.zeros(0, np.float32),
            np.zeros((0, embedding_dim), np.float32),
        )

    def __len__(self) -> int:
        return len(self.boxes)

    def select(self, index: NDArray[Any] | slice) -> Self:
        """The people at some indices, or under a mask, in that order."""
        return type(self)(self.boxes[index], self.scores[index], self.embeddings[index])
