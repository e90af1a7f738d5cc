import dataclasses

import numpy as np
import pytest
import torch

from models.detector import OnnxDetector
from models.errors import ModelFileError
from models.image import encode_jpeg
from models.model_card import load_card
from models.nn.export import export, main

pytestmark = pytest.mark.torch


@pytest.fixture(scope="module")
def checkpoint(tiny_network, tmp_path_factory):
    """What a training run leaves, as far as the export needs it."""
    build = {
        "head": "nae", "backbone": "efficientnet_lite0", "num_ids": 5, "queue_size": 8,
        "min_size": 128, "max_size": 192,
    }  # fmt: skip
    path = tmp_path_factory.mktemp("run") / "checkpoint.pt"
    torch.save({"build": build, "network": tiny_network.state_dict(), "steps": 3}, path)
    return path


@pytest.mark.parametrize(
    ("height", "width"), [(150, 200), (201, 133), (96, 300), (128, 192), (500, 700)]
)
def test_onnx_finds_what_torch_finds_at_every_size(
    tiny_network, tiny_model, picture, height, width
):
    image = picture(7, height, width)

    expected = tiny_network.detect(image)
    (found,) = OnnxDetector(tiny_model).detect([image])

    assert len(found) == len(expected) > 3
    np.testing.assert_allclose(found.boxes, expected.boxes, atol=0.05)
    np.testing.assert_allclose(found.scores, expected.scores, atol=1e-4)
    assert ((found.embeddings * expected.embeddings).sum(axis=1) > 0.9999).all()


@pytest.mark.parametrize("head", ["nae_plus", "nae_plus_res5", "oim"])
def test_onnx_finds_and_embeds_as_torch_does_with_every_head(
    make_tiny_network, picture, tmp_path, head
):
    network = make_tiny_network(head)
    detector = OnnxDetector(export(network, tmp_path))
    boxes = np.array([[10, 10, 50, 120], [90, 5, 140, 140]], np.float32)

    expected = network.detect(picture(7))
    (found,) = detector.detect([picture(7)])

    assert detector.card.head == head
    assert len(found) == len(expected) > 3
    np.testing.assert_allclose(found.boxes, expected.boxes, atol=0.05)
    np.testing.assert_allclose(found.scores, expected.scores, atol=1e-4)
    assert ((found.embeddings * expected.embeddings).sum(axis=1) > 0.9999).all()
    embeddings = detector.embed(picture(3), boxes)
    np.testing.assert_allclose(embeddings, network.embed(picture(3), boxes), atol=1e-4)


def test_a_model_with_pixel_scores_shows_where_in_a_box_it_looks(
    make_tiny_network, picture, tmp_path
):
    detector = OnnxDetector(export(make_tiny_network("nae_plus"), tmp_path))
    boxes = np.array([[10, 10, 50, 120], [90, 5, 140, 140]], np.float32)

    attention = detector.attention(picture(3), boxes)

    rows, columns = detector.card.roi_size
    assert attention.shape == (2, rows // 2, columns // 2)
    assert (attention > 0).all() and (attention < 1).all()
    assert np.ptp(attention) > 1e-3


def test_a_model_without_pixel_scores_has_no_attention(tiny_model, picture):
    with pytest.raises(ModelFileError, match=r"expected a model with an NAE. head.*'nae'"):
        OnnxDetector(tiny_model).attention(picture(3), np.array([[10, 10, 50, 120]]))


def test_onnx_embeds_boxes_as_torch_does(tiny_network, tiny_model, picture):
    boxes = np.array([[10, 10, 50, 120], [90, 5, 140, 140], [0, 0, 200, 150]], np.float32)

    ours = OnnxDetector(tiny_model).embed(picture(3), boxes)

    np.testing.assert_allclose(ours, tiny_network.embed(picture(3), boxes), atol=1e-4)


def test_an_exported_card_says_what_the_network_is(tiny_network, tiny_model):
    card = load_card(tiny_model)

    assert dataclasses.replace(card, sha256={}) == tiny_network.card


def test_exporting_twice_gives_the_same_fingerprint(tiny_network, tiny_model, tmp_path):
    again = export(tiny_network, tmp_path / "again")

    assert load_card(again).fingerprint == load_card(tiny_model).fingerprint


def test_the_command_line_writes_a_model_file(checkpoint, picture, tmp_path, capsys):
    scene = tmp_path / "scene.jpg"
    scene.write_bytes(encode_jpeg(picture(0)))

    code = main([str(checkpoint), "--out", str(tmp_path / "model"), "--check", str(scene)])

    assert code == 0
    assert "parity" in capsys.readouterr().out
    assert len(OnnxDetector(tmp_path / "model").detect([picture(0)])[0])


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (None, "cannot read"),
        (b"", "checkpoint"),
        (b"not a checkpoint", "damaged"),
        ({"model": {}}, "not our checkpoint: 'build'"),
        ({"build": {"head": "best"}, "network": {}}, "unknown head 'best'"),
        ({"build": {"colour": 1}, "network": {}}, "colour"),
    ],
)
def test_what_is_not_our_checkpoint_is_one_line_and_exit_code_2(content, told, tmp_path, capsys):
    path = tmp_path / "checkpoint.pt"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        torch.save(content, path)

    code = main([str(path), "--out", str(tmp_path / "model")])

    error = capsys.readouterr().err
    assert code == 2
    assert error.startswith("error: ")
    assert told in error
    assert error.count("\n") == 1
    assert not (tmp_path / "model").exists()
