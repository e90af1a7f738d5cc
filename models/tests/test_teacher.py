"""A teacher's answers: asked once about each crop, kept, found again by what they are of."""

import io
import shutil

import numpy as np
import pytest
from PIL import Image

from models.datasets.crops import decoded, key_of
from models.datasets.read import read_dataset
from models.datasets.synthetic import write_synthetic
from models.datasets.teacher import Answers, Teacher, ask, boxes_of, main, of_scenes
from models.errors import DatasetError, ModelFileError


def jpeg(colour):
    stream = io.BytesIO()
    Image.new("RGB", (20, 48), colour).save(stream, "JPEG", quality=95)
    return stream.getvalue()


CROPS = {f"{n:04d}_c1s1_000000_00.jpg": jpeg(c) for n, c in enumerate(("red", "lime", "navy"))}


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    """The .xml of a network whose answer is the mean of each channel that comes in."""
    openvino = pytest.importorskip("openvino", reason="asking a teacher takes OpenVINO")
    from openvino import opset13 as ops

    given = ops.parameter([1, 3, 16, 8], np.float32, name="data")
    mean = ops.reduce_mean(given, ops.constant(np.array([2, 3])), keep_dims=False)
    path = tmp_path_factory.mktemp("network") / "means.xml"
    openvino.save_model(openvino.Model([mean], [given], "means"), str(path), False)
    return path


@pytest.fixture
def crops(tmp_path):
    (tmp_path / "crops").mkdir()
    for name, content in CROPS.items():
        (tmp_path / "crops" / name).write_bytes(content)
    return tmp_path / "crops"


def test_a_network_sees_blue_green_red_from_0_to_255_and_answers_with_a_unit_vector(network):
    teacher = Teacher(network)
    crop = np.full((48, 20, 3), (200, 100, 0), np.uint8)

    answer = teacher(crop)

    wanted = np.array([0, 100, 200]) / np.hypot(100, 200)
    np.testing.assert_allclose(answer, wanted, atol=1e-3)
    assert answer.dtype == np.float16


def test_the_command_keeps_an_answer_about_each_crop(network, crops, tmp_path, capsys):
    file = tmp_path / "answers.npz"

    assert main([str(file), "--model", str(network), "--crops", str(crops)]) == 0

    assert "3 answers of means" in capsys.readouterr().out
    answers = Answers.read(file)
    assert answers.teacher == "means"
    about_red = answers.vectors[key_of(CROPS["0000_c1s1_000000_00.jpg"])]
    np.testing.assert_allclose(about_red, [0, 0, 1], atol=0.02)


def test_crops_that_have_an_answer_are_not_asked_about_again(network, crops, tmp_path):
    file = tmp_path / "answers.npz"
    known = key_of(CROPS["0001_c1s1_000000_00.jpg"])
    Answers("means", {known: np.array([1, 0, 0], np.float16)}).write(file)

    assert main([str(file), "--model", str(network), "--crops", str(crops)]) == 0

    answers = Answers.read(file)
    assert len(answers.vectors) == 3
    assert answers.vectors[known].tolist() == [1, 0, 0]


def test_answers_of_two_teachers_do_not_mix(network, crops, tmp_path, capsys):
    file = tmp_path / "answers.npz"
    Answers("another", {1: np.array([1, 0, 0], np.float16)}).write(file)

    assert main([str(file), "--model", str(network), "--crops", str(crops)]) == 2

    assert "holds answers of another, and the model is means" in capsys.readouterr().err


def test_people_in_scenes_are_asked_about_by_their_boxes(tmp_path):
    write_synthetic(tmp_path / "scenes", scenes=3, persons=3)
    scenes = read_dataset(tmp_path / "scenes", split="train").scenes
    answers = Answers("sizes")

    counts = list(
        ask(
            lambda crop: np.array(crop.shape[:2], np.float16),
            of_scenes(tmp_path / "scenes"),
            answers,
        )
    )

    keys, boxes = boxes_of(scenes[1])
    assert counts[-1] == len(answers.vectors) == sum(len(boxes_of(s)[0]) for s in scenes)
    for key, box in zip(keys, boxes, strict=True):
        height, width = answers.vectors[key]
        assert abs(height - (box[3] - box[1])) <= 1 and abs(width - (box[2] - box[0])) <= 1


def test_the_same_scene_elsewhere_has_the_same_keys(tmp_path):
    write_synthetic(tmp_path / "scenes", scenes=2, persons=3)
    shutil.copytree(tmp_path / "scenes", tmp_path / "copy")

    first, again = (
        boxes_of(read_dataset(tmp_path / name, split="train").scenes[0])[0]
        for name in ("scenes", "copy")
    )

    assert first == again and len(set(first)) == len(first) > 0


@pytest.mark.parametrize("content", [b"", b"not an archive"])
def test_what_is_no_file_of_answers_is_refused(tmp_path, content):
    (tmp_path / "answers.npz").write_bytes(content)

    with pytest.raises(DatasetError, match="expected a file of a teacher's answers"):
        Answers.read(tmp_path / "answers.npz")


def test_what_is_no_network_is_refused(network, tmp_path):
    (tmp_path / "broken.xml").write_text("<net>")

    with pytest.raises(ModelFileError, match=r"broken\.xml: not a network that OpenVINO loads"):
        Teacher(tmp_path / "broken.xml")


def test_a_broken_picture_is_named(tmp_path):
    with pytest.raises(DatasetError, match="here: a crop cannot be read"):
        decoded(b"broken", "here")
