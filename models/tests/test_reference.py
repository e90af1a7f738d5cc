import pickle
import struct
import types
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch

from models.detector import OnnxDetector
from models.errors import ModelFileError
from models.nn.network import build_network
from models.nn.reference import convert_state_dict, drawn_scene, head_of, load_reference, main
from models.tests.formula import published_shapes

pytestmark = pytest.mark.torch

REGRESSOR = "roi_heads.box_predictor.bbox_pred."
CONV = "rpn.head.conv."


def flat_state(**other_shapes: tuple[int, ...]) -> dict[str, torch.Tensor]:
    """The published tensors, each of one repeated value: a file of them is small."""
    state = {}
    for number, (name, shape) in enumerate(published_shapes().items()):
        counter = name.endswith("num_batches_tracked")
        value = torch.tensor(number) if counter else torch.tensor(1 + number / 1000)
        state[name] = value.expand(other_shapes.get(name.rpartition(".")[2], shape))
    return state


def without_norm() -> dict[str, torch.Tensor]:
    state = {k: v for k, v in flat_state().items() if not k.startswith(REGRESSOR)}
    generator = torch.Generator().manual_seed(0)
    state[REGRESSOR + "weight"] = torch.randn(8, 2048, generator=generator)
    state[REGRESSOR + "bias"] = torch.randn(8, generator=generator)
    return state


def saved(path: Path, state, **options) -> Path:
    content = {"epoch": 22, "model": state, "optimizer": {"state": {}}, "lr_scheduler": {}}
    torch.save(content, path, **options)
    return path


def test_every_published_tensor_finds_its_place():
    state = flat_state()

    converted = convert_state_dict(state)
    network = build_network("nae", "resnet50", num_ids=5532, queue_size=5000)
    network.load_state_dict(converted)

    unchanged = [name for name in state if name in converted]
    assert len(unchanged) > 300
    assert all(torch.equal(converted[name], state[name]) for name in unchanged)
    assert torch.equal(converted["rpn.head.conv.0.0.weight"], state["rpn.head.conv.weight"])
    memory = network.roi_heads.reid_loss
    assert torch.equal(memory.lookup_table, state["roi_heads.reid_loss.lut"])
    assert torch.equal(memory.circular_queue, state["roi_heads.reid_loss.cq"])
    assert memory.queue_head == 0


def test_the_box_regressor_takes_the_four_values_for_a_person():
    state = flat_state()
    state[REGRESSOR + "0.weight"] = torch.randn(8, 2048)
    state[REGRESSOR + "1.running_mean"] = torch.arange(8.0)

    converted = convert_state_dict(state)

    weight = converted["roi_heads.box_regressor.0.weight"]
    assert torch.equal(weight, state[REGRESSOR + "0.weight"][4:])
    assert converted["roi_heads.box_regressor.1.running_mean"].tolist() == [4, 5, 6, 7]


def test_the_newer_name_of_the_proposal_convolution_is_known():
    older = flat_state()
    newer = {name.replace(CONV, CONV + "0.0."): value for name, value in older.items()}

    ours, theirs = convert_state_dict(older), convert_state_dict(newer)

    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


@torch.no_grad()
def test_a_regressor_without_batch_norm_gives_what_its_linear_layer_gives(tmp_path):
    state = without_norm()
    features = torch.randn(3, 2048, generator=torch.Generator().manual_seed(1))

    network = load_reference(saved(tmp_path / "checkpoint.pth", state))

    expected = features @ state[REGRESSOR + "weight"][4:].T + state[REGRESSOR + "bias"][4:]
    regressed = network.roi_heads.box_regressor(features)
    np.testing.assert_allclose(regressed, expected, rtol=1e-5, atol=1e-4)


def test_the_memory_may_be_of_any_length_or_left_out(tmp_path):
    of_prw = flat_state(lut=(482, 256), cq=(500, 256))
    bare = {k: v for k, v in flat_state().items() if "reid_loss" not in k and "cls_score" not in k}
    weighted = {**flat_state(), "roi_heads.reid_loss.cq_omega": torch.ones(5000)}

    memory = load_reference(saved(tmp_path / "prw.pth", of_prw)).roi_heads.reid_loss
    none = load_reference(saved(tmp_path / "bare.pth", bare)).roi_heads.reid_loss

    assert (len(memory.lookup_table), len(memory.circular_queue)) == (482, 500)
    assert (len(none.lookup_table), len(none.circular_queue)) == (0, 0)
    assert convert_state_dict(weighted).keys() == convert_state_dict(flat_state()).keys()


def broken(kind: str) -> dict[str, torch.Tensor]:
    state = flat_state()
    if kind == "missing":
        for name in list(state)[:5]:
            del state[name]
        del state["rpn.head.conv.bias"]
    elif kind == "extra":
        state |= {f"module.{i}": torch.zeros(1) for i in range(3)}
        state["roi_heads.box_head.layer5.weight"] = torch.zeros(1)
        state["roi_heads.box_regressor.0.bias"] = torch.zeros(8)  # a name of ours
    elif kind == "mis-shaped":
        state["backbone.conv1.weight"] = torch.zeros(64, 3, 3, 3)
        state[REGRESSOR + "0.weight"] = torch.zeros(4, 2048)
    elif kind == "memory":
        state["roi_heads.reid_loss.lut"] = torch.zeros(5532, 128)
    elif kind == "not finite":
        state["backbone.bn1.weight"] = torch.full((64,), torch.nan)
    elif kind == "no tensor":
        state["backbone.conv1.weight"] = [1, 2, 3]
    elif kind == "twice":
        state["rpn.head.conv.0.0.weight"] = state["rpn.head.conv.weight"]
    elif kind == "another network":
        state = {"conv1.weight": torch.zeros(3)}
    return state


@pytest.mark.parametrize(
    ("kind", "told"),
    [
        ("missing", ["6 missing: backbone.conv1.weight, backbone.bn1.weight, ", ", …"]),
        ("extra", ["5 not known: module.0, module.1, module.2, …"]),
        (
            "mis-shaped",
            [
                "2 of another shape: backbone.conv1.weight [64, 3, 3, 3] instead of [64, 3, 7, 7]",
                REGRESSOR + "0.weight [4, 2048] instead of [8, 2048]",
            ],
        ),
        ("memory", ["roi_heads.reid_loss.lut [5532, 128] instead of [5532, 256]"]),
        ("not finite", ["1 not finite: backbone.bn1.weight"]),
        ("no tensor", ["1 missing: backbone.conv1.weight", "1 not known: backbone.conv1.weight"]),
        ("twice", ["1 not known: rpn.head.conv.0.0.weight"]),
        ("another network", ["350 missing: ", "1 not known: conv1.weight"]),
    ],
)
def test_weights_that_do_not_fit_are_refused_by_name_and_count(kind, told):
    with pytest.raises(ModelFileError, match="not the published NAE network") as caught:
        convert_state_dict(broken(kind))

    for part in told:
        assert part in str(caught.value)
    assert len(str(caught.value)) < 600


def test_a_missing_tensor_is_called_by_its_published_name():
    state = flat_state()
    for name in ("rpn.head.conv.bias", REGRESSOR + "1.weight"):
        del state[name]

    with pytest.raises(ModelFileError) as caught:
        convert_state_dict(state)

    assert "2 missing: " in str(caught.value)
    assert "rpn.head.conv.bias" in str(caught.value)
    assert REGRESSOR + "1.weight" in str(caught.value)


@pytest.mark.parametrize("head", ["nae_plus", "nae_plus_res5"])
def test_nae_plus_is_known_by_its_projectors(head):
    shapes = published_shapes(head)
    state = {name: torch.tensor(1.0).expand(shape) for name, shape in shapes.items()}

    network = build_network(head_of(state), "resnet50", num_ids=5532, queue_size=5000)
    network.load_state_dict(convert_state_dict(state))

    assert network.card.head == head


def test_half_an_nae_plus_is_refused_as_one():
    name = "roi_heads.embedding_head.projectors.feat_res5.0.weight"
    state = {**flat_state(), name: torch.zeros(128, 2048, 1, 1)}

    with pytest.raises(ModelFileError, match=r"not the published NAE\+ network: .*feat_res4"):
        convert_state_dict(state)


class Python2Pickler(pickle._Pickler):
    """Writes text as Python 2 did: as byte strings."""

    def save_str(self, text: str) -> None:
        data = text.encode()
        self.write(pickle.SHORT_BINSTRING + struct.pack("<B", len(data)) + data)
        self.memoize(text)

    dispatch = pickle._Pickler.dispatch | {str: save_str}


def python2_dump(content, file, protocol: int) -> None:
    Python2Pickler(file, protocol).dump(content)


PYTHON2 = types.SimpleNamespace(__name__="pickle", Pickler=Python2Pickler, dump=python2_dump)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"_use_new_zipfile_serialization": False},
        {"_use_new_zipfile_serialization": False, "pickle_module": PYTHON2},
    ],
    ids=["zip", "older format", "older format by Python 2"],
)
def test_checkpoints_are_read_in_both_formats_of_torch(tmp_path, options):
    state = OrderedDict(flat_state(lut=(4, 256), cq=(3, 256)))
    state._metadata = OrderedDict({"": {"version": 1}})  # as torch saves a network's state

    network = load_reference(saved(tmp_path / "checkpoint.pth", state, **options), name="mine")

    weight = network.backbone.conv1.weight
    assert torch.equal(weight, state["backbone.conv1.weight"])
    assert not network.training
    assert network.card.name == "mine"
    assert network.card.training["epochs"] == 22
    assert (network.card.input.min_size, network.card.input.max_size) == (900, 1500)


class Harmful:
    """Writes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def harmful(path: Path) -> None:
    saved(path, Harmful(path.with_name("touched")))


def harmful_older(path: Path) -> None:
    content = Harmful(path.with_name("touched"))
    saved(path, content, _use_new_zipfile_serialization=False)


def plain_pickle(path: Path) -> None:
    path.write_bytes(pickle.dumps(Harmful(path.with_name("touched"))))


def cut(path: Path) -> None:
    saved(path, flat_state())
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def cut_older(path: Path) -> None:
    saved(path, flat_state(), _use_new_zipfile_serialization=False)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


UNUSABLE = {
    "no file": (lambda path: None, "cannot read"),
    "a directory": (Path.mkdir, "cannot read"),
    "nothing": (lambda path: path.write_bytes(b""), "damaged"),
    "text": (lambda path: path.write_text("hello"), "damaged"),
    "cut": (cut, "damaged"),
    "cut, older format": (cut_older, "damaged"),
    "code": (harmful, "more than tensors and plain values"),
    "code, older format": (harmful_older, "more than tensors and plain values"),
    "code in a plain pickle": (plain_pickle, "damaged"),
    "a tensor": (lambda path: torch.save(torch.zeros(3), path), "found a Tensor"),
    "our checkpoint": (lambda path: torch.save({"network": {}}, path), "found network"),
    "an empty checkpoint": (lambda path: torch.save({}, path), "found nothing"),
    "another network": (lambda path: saved(path, {"conv1.weight": torch.zeros(3)}), "350 missing"),
}


@pytest.mark.parametrize("kind", UNUSABLE)
def test_an_unusable_file_is_one_line_and_exit_code_2(kind, tmp_path, capsys):
    write, told = UNUSABLE[kind]
    path = tmp_path / "checkpoint.pth"
    write(path)

    code = main([str(path), "--out", str(tmp_path / "model")])

    error = capsys.readouterr().err
    assert code == 2
    assert error.startswith("error: ")
    assert told in error
    assert str(path) in error
    assert error.count("\n") == 1
    assert not (tmp_path / "model").exists()
    assert not (tmp_path / "touched").exists()


def test_a_checkpoint_becomes_a_model_file(published_checkpoint, tmp_path, capsys):
    arguments = ["--name", "small", "--min-size", "64", "--max-size", "96"]

    code = main([str(published_checkpoint), "--out", str(tmp_path / "model"), *arguments])

    assert code == 0
    assert "parity" in capsys.readouterr().out
    detector = OnnxDetector(tmp_path / "model")
    assert detector.card.name == "small"
    assert detector.card.backbone == "resnet50"
    assert detector.card.training["checkpoint"] == "checkpoint.pth"
    assert len(detector.embed(drawn_scene(), np.array([[10, 10, 60, 200]]))) == 1
    for graph in (tmp_path / "model").glob("*.onnx"):
        graph.unlink()


@pytest.mark.parametrize("side", ["0", "-900", "63", "many"])
def test_a_size_that_makes_no_sense_is_refused_before_anything_is_read(side, tmp_path, capsys):
    with pytest.raises(SystemExit) as caught:
        main(["checkpoint.pth", "--out", str(tmp_path), "--min-size", side])

    assert caught.value.code == 2
    assert "--min-size" in capsys.readouterr().err


def test_the_drawn_scene_is_always_the_same():
    assert drawn_scene().shape == (480, 640, 3)
    assert np.array_equal(drawn_scene(), drawn_scene())
