import numpy as np
import pytest

from indexer.errors import GalleryError
from indexer.index import faiss_flat as faiss_index
from indexer.index.engines import ENGINES, open_index
from indexer.index.exact import ExactIndex
from indexer.tests.scenery import unit

DIM = 16


@pytest.fixture(params=sorted(set(ENGINES) - {"exact"}))
def index(request, monkeypatch):
    monkeypatch.setattr(faiss_index, "BLOCK_ROWS", 32)  # many blocks from few vectors
    return open_index(request.param, DIM)


def vectors(random, count):
    return unit(random.standard_normal((count, DIM), np.float32)) * random.random((count, 1))


def assert_same(found, expected):
    np.testing.assert_array_equal(found.ids, expected.ids)
    np.testing.assert_allclose(found.similarities, expected.similarities, atol=1e-6)


@pytest.mark.parametrize("seed", range(10))
def test_an_engine_answers_as_exact_search_does_through_additions_and_removals(index, seed):
    random = np.random.default_rng(seed)
    exact = ExactIndex(DIM)
    queries = unit(random.standard_normal((5, DIM), np.float32))
    unused = random.permutation(np.arange(1, 2000))
    for _ in range(12):
        new, unused = np.split(unused, [random.integers(0, 80)])
        gone = random.permutation(exact.ids())[: random.integers(0, 60)]
        some = vectors(random, len(new)).astype(np.float32)
        for engine in (index, exact):
            engine.add(new, some)
            engine.remove(gone)
        allowed = random.random(random.integers(0, 2500)) < random.choice([0.02, 0.3, 1])

        assert_same(index.search(queries, 7), exact.search(queries, 7))
        assert_same(index.search(queries, 7, allowed), exact.search(queries, 7, allowed))
        np.testing.assert_array_equal(index.ids(), exact.ids())
        assert len(index) == len(exact)


def test_what_is_not_there_has_id_minus_one_and_similarity_minus_infinity(index):
    one = np.ones((1, DIM), np.float32)
    index.add(np.array([7]), one)

    hits = index.search(one, 3)

    assert hits.ids.tolist() == [[7, -1, -1]]
    assert hits.similarities.tolist() == [[DIM, -np.inf, -np.inf]]


def test_an_empty_index_finds_nothing(index):
    hits = index.search(np.ones((2, DIM), np.float32), 4)

    assert (hits.ids == -1).all()
    assert np.isneginf(hits.similarities).all()


@pytest.mark.parametrize("allowed", [np.zeros(0, bool), np.zeros(9, bool), np.ones(3, bool)])
def test_a_filter_that_allows_nobody_finds_nobody(index, allowed):
    one = np.ones((1, DIM), np.float32)
    index.add(np.array([5]), one)

    assert index.search(one, 2, allowed).ids.tolist() == [[-1, -1]]


def test_equal_vectors_come_in_the_order_of_their_ids(index):
    same = np.ones((100, DIM), np.float32)
    index.add(np.arange(100)[::-1].copy(), same)

    assert index.search(same[:1], 100).ids[0].tolist() == list(range(100))


def test_a_negative_similarity_is_found_when_there_is_nothing_better(index):
    one = np.ones((1, DIM), np.float32)
    index.add(np.array([0]), -one)

    assert index.search(one, 1).similarities.tolist() == [[-DIM]]


def test_an_unknown_engine_is_refused_and_the_known_ones_are_named():
    with pytest.raises(GalleryError, match="exact, faiss-flat"):
        open_index("quantum", 4)
