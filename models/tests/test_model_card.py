import dataclasses
import json
from pathlib import Path

import pytest

from models.detector import OnnxDetector
from models.errors import ModelFileError
from models.model_card import (
    HEAD_GRAPH,
    SCENE_GRAPH,
    DetectionRule,
    ModelCard,
    load_card,
    save_card,
    verified_graph,
)
from models.preprocess import InputRule
from models.proposals import ProposalRule

CARD = ModelCard(
    name="mine",
    head="nae",
    backbone="resnet50",
    embedding_dim=256,
    roi_size=(14, 14),
    input=InputRule(min_size=240),
    proposals=ProposalRule(),
    detections=DetectionRule(),
    score_meaning="how surely",
    training={"licence": "CC0", "scenes": [{"name": "a"}]},
    metrics={"scenes": {"ap": 0.5}},
)


@pytest.fixture
def model(tmp_path) -> Path:
    """A model directory whose graphs are not graphs."""
    (tmp_path / SCENE_GRAPH).write_bytes(b"scene")
    (tmp_path / HEAD_GRAPH).write_bytes(b"head")
    save_card(CARD, tmp_path)
    return tmp_path


def edited(model: Path, **changes) -> Path:
    """The model with other entries in its card; None takes one out."""
    path = model / "card.json"
    content = {**json.loads(path.read_text()), **changes}
    path.write_text(json.dumps({k: v for k, v in content.items() if v is not None}))
    return model


def test_a_card_reads_back_as_it_was_written(model):
    card = load_card(model)

    assert dataclasses.replace(card, sha256={}) == CARD
    assert card == load_card(model / "card.json")
    assert card.sha256.keys() == {SCENE_GRAPH, HEAD_GRAPH}
    assert verified_graph(card, model, HEAD_GRAPH) == b"head"


def test_the_fingerprint_follows_what_decides_the_answers_and_nothing_else(model):
    card = load_card(model)

    for told in ({"name": "other"}, {"metrics": {}}, {"training": {}}, {"score_meaning": ""}):
        assert dataclasses.replace(card, **told).fingerprint == card.fingerprint
    for deciding in (
        {"sha256": {}},
        {"roi_size": (7, 7)},
        {"input": InputRule(min_size=241)},
        {"proposals": ProposalRule(after_nms=299)},
        {"detections": DetectionRule(score_threshold=0.4)},
    ):
        assert dataclasses.replace(card, **deciding).fingerprint != card.fingerprint
    assert load_card(model).fingerprint == card.fingerprint


@pytest.mark.parametrize("graph", [SCENE_GRAPH, HEAD_GRAPH])
def test_a_graph_that_was_changed_is_refused(model, graph):
    (model / graph).write_bytes(b"another")

    with pytest.raises(ModelFileError, match=rf"{graph}: sha256 is .*the card says"):
        OnnxDetector(model)


@pytest.mark.parametrize("graph", [SCENE_GRAPH, HEAD_GRAPH])
def test_a_missing_graph_is_named(model, graph):
    (model / graph).unlink()

    with pytest.raises(ModelFileError, match=f"cannot read .*{graph}: No such file"):
        OnnxDetector(model)


def test_a_graph_that_is_none_is_refused_in_one_error_of_ours(model):
    with pytest.raises(ModelFileError, match="ONNX Runtime cannot load the graph"):
        OnnxDetector(model)


@pytest.mark.parametrize("place", ["", "none", "scene.onnx"])
def test_a_place_without_a_model_is_named_with_what_is_expected_there(tmp_path, place):
    (tmp_path / "scene.onnx").write_bytes(b"")

    with pytest.raises(ModelFileError, match=r"expected a directory with card\.json, scene"):
        OnnxDetector(tmp_path / place)


@pytest.mark.parametrize("content", [b"{", b"\xff\xfe", b""])
def test_a_card_that_is_not_json_is_refused(model, content):
    (model / "card.json").write_bytes(content)

    with pytest.raises(ModelFileError, match="is not JSON"):
        load_card(model)


@pytest.mark.parametrize("changes", [{"format": 2}, {"format": None}, {"format": "1"}])
def test_a_card_of_another_format_is_refused(model, changes):
    with pytest.raises(ModelFileError, match="expected a model card of format 1"):
        load_card(edited(model, **changes))


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"embedding_dim": None}, "embedding_dim"),
        ({"input": None}, "input"),
        ({"colour": "red"}, "colour"),
        ({"input": {"min": 3}}, "min"),
        ({"proposals": [1, 2]}, "list"),
        ({"roi_size": 14}, "int"),
    ],
)
def test_an_incomplete_or_unknown_card_is_refused_by_name(model, changes, told):
    with pytest.raises(ModelFileError, match=f"not a complete model card.*{told}"):
        load_card(edited(model, **changes))


def test_a_card_that_is_a_list_is_refused(model):
    (model / "card.json").write_text("[]")

    with pytest.raises(ModelFileError, match="expected a model card of format 1"):
        load_card(model)
