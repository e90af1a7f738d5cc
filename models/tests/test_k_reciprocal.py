import numpy as np
import pytest

from models.reranking.k_reciprocal import k_reciprocal


def obvious(to_query, among, scores, k1, k2, own_weight):
    """The paper's sets, one by one: everybody is 0 (the query) or 1 … N."""
    count = len(scores) + 1
    distance = np.zeros((count, count))
    distance[0, 1:] = distance[1:, 0] = 1 - np.round(to_query, 6)
    distance[1:, 1:] = 1 - np.round(among, 6)

    def nearest(p, k):
        others = sorted((q for q in range(count) if q != p), key=lambda q: (distance[p, q], q))
        return [p, *others[:k]]

    def reciprocal(p, k):
        return {q for q in nearest(p, k) if p in nearest(q, k)}

    def encode(p):
        own = reciprocal(p, k1)
        expanded = set(own)
        for q in own:
            other = reciprocal(q, round(k1 / 2))
            if len(other & own) > 2 / 3 * len(other):
                expanded |= other
        weights = {q: np.exp(-distance[p, q]) if q != p else 1.0 for q in expanded}
        return {q: weight / sum(weights.values()) for q, weight in weights.items()}

    encoded = [encode(p) for p in range(count)]

    def averaged(p):
        own = nearest(p, k2 - 1)
        return [sum(encoded[q].get(g, 0) for q in own) / len(own) for g in range(count)]

    query = averaged(0)
    found = []
    for hit in range(1, count):
        own = averaged(hit)
        both = list(zip(query, own, strict=True))
        jaccard = 1 - sum(map(min, both)) / sum(map(max, both))
        found.append((1 - own_weight) * jaccard + own_weight * (1 - scores[hit - 1]))
    return found


def crowd(people, boxes, *, dim=6, spread=0.5, seed=0):
    """Unit vectors of a query (of person 0) and of hits, in the order of their scores."""
    random = np.random.default_rng(seed)
    centres = random.standard_normal((people, dim))
    who = np.repeat(np.arange(people), boxes)
    vectors = centres[[0, *who]] + spread * random.standard_normal((len(who) + 1, dim))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    scores = random.uniform(0.6, 1, len(who)) * (vectors[1:] @ vectors[0])
    order = np.argsort(-scores)
    vectors, scores, who = np.vstack([vectors[:1], vectors[1:][order]]), scores[order], who[order]
    return vectors[1:] @ vectors[0], vectors[1:] @ vectors[1:].T, scores, who


@pytest.mark.parametrize(
    ("people", "boxes", "k1", "k2"),
    [(12, 4, 20, 6), (9, 3, 5, 2), (6, 6, 7, 3), (4, 2, 20, 6), (1, 1, 20, 6), (5, 5, 4, 1)],
)
def test_distances_are_those_of_the_paper_s_sets(people, boxes, k1, k2):
    to_query, among, scores, _ = crowd(people, boxes, seed=people)
    found = k_reciprocal(to_query, among, scores, k1=k1, k2=k2)

    assert found == pytest.approx(obvious(to_query, among, scores, k1, k2, 0.3), abs=1e-6)


def test_equal_hits_are_told_apart_by_their_order_in_both():
    vectors = np.eye(3)[[0, 0, 1, 1, 0, 2, 2, 1]]
    among, to_query = vectors @ vectors.T, vectors @ np.array([1.0, 0, 0])
    found = k_reciprocal(to_query, among, to_query, k1=3, k2=2)

    assert found == pytest.approx(obvious(to_query, among, to_query, 3, 2, 0.3), abs=1e-6)


def test_with_all_weight_on_the_score_nothing_moves():
    to_query, among, scores, _ = crowd(8, 4)

    assert k_reciprocal(to_query, among, scores, own_weight=1) == pytest.approx(
        1 - scores, abs=1e-6
    )


def test_hits_that_share_the_query_s_neighbours_move_up():
    # As surely detected as each other, people of many boxes; the query is a rather odd one.
    gains = []
    for seed in range(10):
        to_query, among, _, who = crowd(10, 8, spread=0.9, seed=seed)
        right = who == 0
        order = np.argsort(k_reciprocal(to_query, among, to_query, k1=8, k2=3), kind="stable")
        before = np.argsort(-to_query, kind="stable")
        gains.append(right[order][:8].sum() - right[before][:8].sum())

    assert sum(gains) > 0
    assert min(gains) >= -1


def test_no_hits_have_no_distances():
    assert k_reciprocal(np.zeros(0), np.zeros((0, 0)), np.zeros(0)).shape == (0,)
