"""What is stored in a gallery and how it is compared."""

import numpy as np
from numpy.typing import NDArray

from models.detections import Detections


def gallery_vectors(detections: Detections) -> NDArray[np.float32]:
    """Detection score × embedding [N, D]: its inner product with a unit query is the CWS."""
    return detections.scores[:, None] * detections.embeddings


def class_weighted_similarity(
    query: NDArray[np.float32], embeddings: NDArray[np.float32], scores: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Cosine similarity, weighted by how surely each box holds a person.

    Args:
        query: [D], unit length.
        embeddings: [N, D], unit length rows.
        scores: [N] detection scores in [0, 1].

    Returns:
        [N] in [−1, 1].

    Reference:
        Chen et al., Norm-Aware Embedding for Efficient Person Search, CVPR 2020, section 3.3.
    """
    return scores * (embeddings @ query)
