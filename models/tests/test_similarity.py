import numpy as np
import pytest

from models.detections import Detections
from models.similarity import class_weighted_similarity, gallery_vectors


def people(count: int = 6, dim: int = 8) -> Detections:
    rng = np.random.default_rng(0)
    embeddings = rng.standard_normal((count, dim)).astype(np.float32)
    embeddings /= np.linalg.norm(embeddings, axis=1, keepdims=True)
    corners = rng.uniform(0, 50, (count, 2))
    boxes = np.concatenate([corners, corners + 10], axis=1).astype(np.float32)
    return Detections(boxes, rng.random(count).astype(np.float32), embeddings)


def test_a_gallery_vectors_length_is_its_detection_score():
    found = people()

    np.testing.assert_allclose(
        np.linalg.norm(gallery_vectors(found), axis=1), found.scores, rtol=1e-6
    )


def test_inner_product_with_a_gallery_vector_is_the_class_weighted_similarity():
    found, query = people(), people().embeddings[2]

    similarity = class_weighted_similarity(query, found.embeddings, found.scores)

    np.testing.assert_allclose(gallery_vectors(found) @ query, similarity, rtol=1e-6)
    assert similarity[2] == pytest.approx(found.scores[2])
    assert (np.abs(similarity) <= found.scores + 1e-6).all()


def test_detections_are_chosen_by_index_mask_and_slice():
    found = people()

    by_index, by_mask, by_slice = (
        found.select(index) for index in (np.array([0, 1, 2]), np.arange(6) < 3, slice(3))
    )

    assert len(by_index) == len(by_mask) == len(by_slice) == 3
    assert np.array_equal(by_index.embeddings, by_mask.embeddings)
    assert np.array_equal(by_index.boxes, by_slice.boxes)


def test_nobody_is_a_valid_answer():
    nobody = Detections.empty(8)

    assert len(nobody) == 0
    assert gallery_vectors(nobody).shape == (0, 8)


@pytest.mark.parametrize(
    ("field", "value", "told"),
    [
        ("boxes", np.zeros((6, 5), np.float32), "boxes"),
        ("scores", np.zeros(5, np.float32), "scores"),
        ("scores", np.full(6, 1.1, np.float32), "scores in"),
        ("scores", np.full(6, np.nan, np.float32), "finite"),
        ("scores", np.full(6, 0.5), "float32"),
        ("embeddings", np.zeros((6, 8), np.float32), "unit length"),
        ("embeddings", np.zeros((5, 8), np.float32), "embeddings"),
    ],
)
def test_arrays_that_do_not_belong_together_are_refused(field, value, told):
    arrays = {**vars(people()), field: value}

    with pytest.raises(ValueError, match=told):
        Detections(**arrays)
