import numpy as np
import pytest

from indexer.index import faiss_flat as faiss_index
from indexer.index.faiss_flat import FaissFlatIndex
from indexer.tests.scenery import unit

DIM = 8


@pytest.fixture
def index(monkeypatch):
    monkeypatch.setattr(faiss_index, "BLOCK_ROWS", 16)
    return FaissFlatIndex(DIM)


def test_vectors_added_across_blocks_are_each_found(index):
    axes = unit(np.random.default_rng(0).standard_normal((50, DIM), np.float32))
    index.add(np.arange(10), axes[:10])
    index.add(np.arange(10, 50), axes[10:])

    hits = index.search(axes, 1)

    assert hits.ids[:, 0].tolist() == list(range(50))


def test_a_removed_id_can_not_be_found_and_its_neighbors_can(index):
    axes = unit(np.random.default_rng(0).standard_normal((40, DIM), np.float32))
    index.add(np.arange(40), axes)
    index.remove(np.arange(0, 40, 2))

    found = index.search(axes, 1).ids[:, 0]

    assert found[1::2].tolist() == list(range(1, 40, 2))
    assert (found % 2 == 1).all()


def test_memory_is_given_back_when_vectors_are_removed(index):
    index.add(np.arange(100), np.ones((100, DIM), np.float32))
    full = index.nbytes
    index.remove(np.arange(95))

    assert len(index) == 5
    assert len(index._blocks) == 1
    assert index.nbytes < full


def test_removing_what_is_not_there_changes_nothing(index):
    index.add(np.array([3]), np.ones((1, DIM), np.float32))
    index.remove(np.array([-1, 0, 2, 4, 10_000]))

    assert index.ids().tolist() == [3]


def test_a_removed_id_may_be_added_again(index):
    one = np.ones((1, DIM), np.float32)
    index.add(np.array([3]), one)
    index.remove(np.array([3]))
    index.add(np.array([3]), -one)

    assert index.search(one, 1).similarities.tolist() == [[-DIM]]


@pytest.mark.parametrize("ids", [[4, 3], [5, 5]])
def test_an_id_twice_is_refused_and_nothing_is_added(index, ids):
    index.add(np.array([3]), np.ones((1, DIM), np.float32))

    with pytest.raises(ValueError, match="already"):
        index.add(np.array(ids), np.ones((2, DIM), np.float32))

    assert index.ids().tolist() == [3]


def test_vectors_of_another_length_are_refused(index):
    with pytest.raises(ValueError, match=r"expected vectors \[1, 8\]"):
        index.add(np.array([1]), np.ones((1, DIM + 1), np.float32))


def test_a_query_gets_the_same_answer_alone_and_in_a_batch():
    random = np.random.default_rng(0)
    index = FaissFlatIndex(256)
    index.add(np.arange(3000), unit(random.standard_normal((3000, 256), np.float32)))
    queries = unit(random.standard_normal((64, 256), np.float32))

    together = index.search(queries, 10)

    for row, query in enumerate(queries):
        alone = index.search(query[None], 10)
        assert alone.ids[0].tolist() == together.ids[row].tolist()
        np.testing.assert_allclose(alone.similarities[0], together.similarities[row], atol=1e-6)
