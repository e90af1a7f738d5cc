"""Ranking the best hits anew by whom they have as neighbours, in common with the query.

Two pictures are of one person the more surely the more of their nearest neighbours they share, if
each is also a neighbour of its neighbours.

Reference:
    Zhong et al., Re-ranking Person Re-identification with k-reciprocal Encoding, CVPR 2017.
"""

import numpy as np
from numpy.typing import NDArray

K1 = 20
"""So many neighbours may be reciprocal, as published for most datasets."""

K2 = 6
"""Over so many neighbours, oneself included, the encoding is averaged (local query expansion)."""

OWN_WEIGHT = 0.3
"""λ, the weight of the original distance beside the Jaccard distance."""


def k_reciprocal(
    to_query: NDArray[np.floating],
    among: NDArray[np.floating],
    scores: NDArray[np.floating],
    *,
    k1: int = K1,
    k2: int = K2,
    own_weight: float = OWN_WEIGHT,
) -> NDArray[np.float64]:
    """How far hits are from the query, by neighbours and by their own score.

    Neighbours are told by cosine similarity, for who resembles whom does not depend on how surely
    each was detected; the original distance of a hit is 1 − its score. The hits are all that there
    is: time and memory grow with the square of their number, and who has few neighbours among them
    is told less well.

    Args:
        to_query: [N] cosine similarities of the hits to the query.
        among: [N, N], of the hits to each other.
        scores: [N] class-weighted similarities, which ranked them. Where two are equally near to a
            third, the one earlier in N is the nearer one.
        own_weight: λ in [0, 1].

    Returns:
        [N], rounded to 6 decimals; smaller is nearer.
    """
    count = len(scores) + 1
    similarity = np.empty((count, count))
    similarity[0, 1:] = similarity[1:, 0] = to_query
    similarity[1:, 1:] = among
    similarity = np.round(similarity, 6)  # what is equally similar is equal wherever it stands
    np.fill_diagonal(similarity, np.inf)  # oneself is the nearest, before any copy
    order = np.argsort(-similarity, axis=1, kind="stable")
    place = np.argsort(order, axis=1)
    np.fill_diagonal(similarity, 1)
    within = [place <= k for k in (k1, round(k1 / 2))]
    near, half = (own & own.T for own in within)
    # |R(p, k1) ∩ R(q, k1/2)| of each p and q; whole numbers, so that float32 is exact.
    shared = near.astype(np.float32) @ half.T.astype(np.float32)
    joined = near & (3 * shared > 2 * half.sum(axis=1))
    expanded = near | (joined.astype(np.float32) @ half.astype(np.float32) > 0)
    encoded = np.where(expanded, np.exp(similarity - 1), 0)
    encoded /= encoded.sum(axis=1, keepdims=True)
    encoded = encoded[order[:, :k2]].mean(axis=1)
    common = np.minimum(encoded[0], encoded[1:]).sum(axis=1)
    jaccard = 1 - common / (2 - common)
    far: NDArray[np.float64] = (1 - own_weight) * jaccard + own_weight * (1 - scores)
    return np.round(far, 6)
