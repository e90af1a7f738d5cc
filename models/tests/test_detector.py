from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from models.detections import Detections
from models.detector import DEFAULT_MODEL, OnnxDetector, check_boxes
from models.errors import BoxError, ModelFileError
from models.model_card import CARD_NAME

BOXES = np.array([[10, 10, 50, 120], [90, 5, 140, 140], [20.5, 30.25, 44, 90]], np.float32)


@pytest.fixture(scope="module")
def detector(tiny_model) -> OnnxDetector:
    return OnnxDetector(tiny_model)


def assert_same(found: Detections, expected: Detections) -> None:
    assert np.array_equal(found.boxes, expected.boxes)
    assert np.array_equal(found.scores, expected.scores)
    assert np.array_equal(found.embeddings, expected.embeddings)


@pytest.mark.torch
def test_a_picture_gets_the_same_answer_alone_and_in_company(detector, picture):
    sizes = [(150, 200), (200, 150), (96, 300)]
    images = [picture(seed, *size) for seed, size in enumerate(sizes)]

    together = detector.detect(images)
    backwards = detector.detect(images[::-1])[::-1]

    for image, found, again in zip(images, together, backwards, strict=True):
        assert len(found)
        assert_same(found, detector.detect([image])[0])
        assert_same(found, again)


@pytest.mark.torch
def test_a_picture_gets_the_same_answer_in_several_threads_at_once(detector, picture):
    images = [picture(seed) for seed in range(4)]
    expected = detector.detect(images)

    with ThreadPoolExecutor(4) as threads:
        found = list(threads.map(lambda image: detector.detect([image])[0], images))

    for ours, theirs in zip(found, expected, strict=True):
        assert_same(ours, theirs)


@pytest.mark.torch
def test_detections_are_sorted_and_lie_in_the_picture(detector, picture):
    for seed in range(4):
        (found,) = detector.detect([picture(seed, 150, 200)])
        assert (np.diff(found.scores) <= 0).all()
        assert found.scores.min() > detector.card.detections.score_threshold
        assert found.boxes.min() >= 0
        assert found.boxes.max(axis=0).tolist() <= [200.01, 150.01, 200.01, 150.01]
        assert found.embeddings.shape[1] == detector.card.embedding_dim


@pytest.mark.torch
def test_a_higher_threshold_finds_the_surest_of_the_same_people(tiny_model, detector, picture):
    (everybody,) = detector.detect([picture(1)])
    threshold = float(np.median(everybody.scores))

    (surest,) = OnnxDetector(tiny_model, score_threshold=threshold).detect([picture(1)])

    assert_same(surest, everybody.select(everybody.scores > threshold))


@pytest.mark.torch
def test_a_scene_in_which_nobody_is_found_is_an_answer(tiny_model, picture):
    (found,) = OnnxDetector(tiny_model, score_threshold=0.9999).detect([picture(0)])

    assert len(found) == 0
    assert found.embeddings.shape == (0, 256)
    assert OnnxDetector(tiny_model).detect([]) == []


@pytest.mark.torch
def test_a_box_is_embedded_alike_alone_and_among_many(detector, picture):
    many = np.concatenate([BOXES] * 15)  # more than one run of the head takes

    embeddings = detector.embed(picture(3), many)
    alone = np.concatenate([detector.embed(picture(3), box[None]) for box in BOXES])

    assert embeddings.shape == (45, 256)
    np.testing.assert_allclose(np.linalg.norm(embeddings, axis=1), 1, rtol=1e-5)
    np.testing.assert_allclose(embeddings, np.concatenate([alone] * 15), atol=1e-5)


def test_the_part_of_a_scene_around_a_box_describes_it_as_the_whole_does():
    shipped = OnnxDetector()
    pixels = np.random.default_rng(5).integers(0, 256, (576, 720, 3), dtype=np.uint8)
    boxes = np.array([[300, 200, 360, 380], [0, 0, 40, 90], [650, 400, 720, 576]], np.float32)

    from_whole = shipped.embed(pixels, boxes)
    from_part = np.concatenate([shipped.embed(pixels, box[None]) for box in boxes])

    np.testing.assert_allclose(from_part, from_whole, atol=1e-5)


@pytest.mark.torch
def test_the_same_person_is_more_alike_than_another(detector, picture):
    (found,) = detector.detect([picture(2)])

    again = detector.embed(picture(2), found.boxes)

    similarity = found.embeddings @ again.T
    assert np.median(np.diag(similarity)) > np.median(similarity)


@pytest.mark.torch
def test_no_boxes_give_no_embeddings(detector, picture):
    assert detector.embed(picture(0), np.zeros((0, 4))).shape == (0, 256)


@pytest.mark.torch
def test_a_crop_is_embedded_as_one_person(detector, picture):
    scene = picture(4, 200, 300)
    crop = scene[20:180, 100:170]

    embedding = detector.embed_crop(crop)

    assert embedding.shape == (256,)
    assert np.linalg.norm(embedding) == pytest.approx(1, rel=1e-5)
    assert not np.allclose(embedding, detector.embed_crop(scene[20:180, 10:80]), atol=0.01)


@pytest.mark.torch
def test_boxes_of_a_scene_are_checked_before_they_are_embedded(detector, picture):
    with pytest.raises(BoxError, match=r"leaves the picture of 200×150 pixels"):
        detector.embed(picture(0), np.array([[150, 10, 260, 90]]))


@pytest.mark.parametrize(
    ("box", "told"),
    [
        ((10, 10, 10, 50), "is empty"),
        ((10, 50, 40, 20), "is empty"),
        ((-2, 10, 40, 50), "leaves the picture"),
        ((10, 10, 102, 50), "leaves the picture"),
        ((10, 10, 40, 1e30), "leaves the picture"),
        ((-0.9, 10, -0.1, 50), "leaves the picture"),
        ((100, 10, 100.9, 50), "leaves the picture"),
        ((np.nan, 10, 40, 50), "is not finite"),
        ((10, 10, np.inf, 50), "is not finite"),
    ],
)
def test_a_box_that_cannot_be_used_is_refused_by_name(box, told):
    with pytest.raises(BoxError, match=told) as caught:
        check_boxes(np.array([(0, 0, 10, 10), box]), height=80, width=100)

    assert f"({box[0]:g}, " in str(caught.value)


@pytest.mark.parametrize("shape", [(4,), (1, 5), (1, 1, 4)])
def test_what_is_not_a_list_of_boxes_is_refused(shape):
    with pytest.raises(BoxError, match=r"expected boxes \[N, 4\]"):
        check_boxes(np.zeros(shape), height=80, width=100)


def test_boxes_are_cut_where_they_leave_the_picture_by_less_than_a_pixel():
    boxes = np.array([[-0.5, -1, 101, 80.5], [0, 0, 100, 80]])

    assert check_boxes(boxes, height=80, width=100).tolist() == [[0, 0, 100, 80]] * 2


def test_a_device_that_is_not_there_is_refused_by_name():
    with pytest.raises(ModelFileError, match="device 'tpu' is not available"):
        OnnxDetector(DEFAULT_MODEL, device="tpu")


def test_the_model_that_comes_with_the_package_finds_and_embeds():
    detector = OnnxDetector(DEFAULT_MODEL / CARD_NAME)
    grey = np.full((120, 160, 3), 127, np.uint8)

    (found,) = detector.detect([grey])
    embeddings = detector.embed(grey, np.array([[20, 10, 60, 110]]))

    assert len(found) < 5
    assert embeddings.shape == (1, detector.card.embedding_dim)
    assert np.linalg.norm(embeddings) == pytest.approx(1, rel=1e-5)
