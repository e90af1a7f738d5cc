"""Training: a run reaches a model file, goes on exactly, and refuses what it cannot use."""

import json
import shutil

import pytest

torch = pytest.importorskip("torch")

from models.datasets.synthetic import write_synthetic  # noqa: E402
from models.detector import OnnxDetector  # noqa: E402
from models.errors import DatasetError, PersonSearchError  # noqa: E402
from models.model_card import load_card  # noqa: E402
from service.train.__main__ import main  # noqa: E402
from service.train.checkpoint import load_checkpoint  # noqa: E402
from service.train.config import TrainConfig  # noqa: E402
from service.train.data import EpochScenes, TrainingData, collate  # noqa: E402
from service.train.loop import LossExplodedError, _rate, train  # noqa: E402

pytestmark = [
    pytest.mark.torch,
    # TensorBoard's own imports warn on current NumPy and protobuf.
    pytest.mark.filterwarnings("default::DeprecationWarning"),
]


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    directory = tmp_path_factory.mktemp("scenes")
    write_synthetic(directory, scenes=8, persons=4, cameras=2, size=(192, 128), seed=3)
    return directory


def config(scenes, out, **changes):
    return TrainConfig(
        **{
            "data": [scenes], "out": out, "backbone": "efficientnet_lite0", "epochs": 2,
            "batch_size": 2, "min_size": 128, "max_size": 192, "regions_per_image": 8,
            "queue_size": 8, "embedding_dim": 16, "workers": 0, "device": "cpu",
            "checkpoint_every": 3, "warmup_steps": 2, "val_scenes": 2,
        }
        | changes
    )  # fmt: skip


@pytest.fixture(scope="module")
def finished(scenes, tmp_path_factory):
    run = tmp_path_factory.mktemp("run")
    return run, train(config(scenes, run))


def test_a_run_ends_with_a_model_file_that_serving_loads(finished, scenes):
    run, model = finished

    detector = OnnxDetector(model)

    card = load_card(model)
    assert model == run / "model"
    assert card.training["steps"] == 8
    assert card.training["scenes"][0]["scenes"] == 8
    assert len(card.metrics) == 1
    assert detector.card.embedding_dim == 16


def test_a_run_leaves_a_log_of_scalars(finished):
    run, _ = finished

    assert list((run / "tensorboard").iterdir())


def test_a_resumed_run_equals_an_uninterrupted_one_bit_for_bit(finished, scenes, tmp_path):
    run, _ = finished
    interrupted = config(scenes, tmp_path)

    with pytest.raises(KeyboardInterrupt):
        train_until(interrupted, steps=5)
    assert load_checkpoint(tmp_path / "checkpoint.pt")["steps"] == 3  # mid-epoch
    train(interrupted.model_copy(update={"resume": True}))

    whole = load_checkpoint(run / "checkpoint.pt")
    resumed = load_checkpoint(tmp_path / "checkpoint.pt")
    assert whole["steps"] == resumed["steps"] == 8
    for name, tensor in whole["network"].items():
        assert torch.equal(tensor, resumed["network"][name]), name
    for key, state in whole["optimizer"]["state"].items():
        assert torch.equal(
            state["momentum_buffer"], resumed["optimizer"]["state"][key]["momentum_buffer"]
        )
    assert torch.equal(whole["rng"], resumed["rng"])
    assert whole["network"]["roi_heads.reid_loss.lookup_table"].any()


def train_until(configuration, *, steps):
    """Train, and be interrupted as by Ctrl-C in the middle of a step."""
    from service.train import loop

    done, step = 0, loop._step

    def interrupted_step(*arguments):
        nonlocal done
        done += 1
        if done > steps:
            raise KeyboardInterrupt
        return step(*arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "_step", interrupted_step)
        train(configuration)


def test_resuming_with_another_recipe_is_refused(finished, scenes, tmp_path):
    run, _ = finished
    shutil.copy(run / "checkpoint.pt", tmp_path)

    with pytest.raises(PersonSearchError, match=r"lr was 0\.003 and is 0\.1"):
        train(config(scenes, tmp_path, resume=True, lr=0.1))


def test_what_an_epoch_shows_depends_on_the_seed_alone(scenes):
    card_rule = TrainingData([scenes], None, composed=0, rule=_rule()).rule
    data = TrainingData([scenes], None, composed=0, rule=card_rule)

    first = EpochScenes(data, seed=1, epoch=0, count=8)
    again = EpochScenes(data, seed=1, epoch=0, count=8, start=4)

    for i in range(4):
        assert torch.equal(first[4 + i].pixels, again[i].pixels)
        assert torch.equal(first[4 + i].target["boxes"], again[i].target["boxes"])


def test_flipping_mirrors_the_boxes(scenes):
    data = TrainingData([scenes], None, composed=0, rule=_rule())
    samples = [EpochScenes(data, seed=s, epoch=0, count=8) for s in range(6)]

    seen = set()
    for epoch in samples:
        for place in range(8):
            scene = data.scenes[epoch._order[place]]
            boxes = torch.from_numpy(scene.boxes[~scene.ignore])
            got = epoch[place]
            scale = got.size[1] / scene.width
            mirrored = torch.stack([scene.width - boxes[:, 2], scene.width - boxes[:, 0]], 1)
            plain = torch.allclose(
                got.target["boxes"][:, [0, 2]], boxes[:, [0, 2]] * scale, atol=0.1
            )
            flipped = torch.allclose(got.target["boxes"][:, [0, 2]], mirrored * scale, atol=0.1)
            assert plain or flipped
            seen.add("plain" if plain else "flipped")
    assert seen == {"plain", "flipped"}


def test_a_batch_is_padded_with_zeros(scenes):
    data = TrainingData([scenes], None, composed=0, rule=_rule())
    epoch = EpochScenes(data, seed=1, epoch=0, count=2)
    small, large = epoch[0], epoch[1]
    small.pixels = small.pixels[:, :64, :96]

    images, sizes, targets = collate([small, large])

    assert images.shape == (2, *large.pixels.shape)
    assert torch.equal(images[0, :, :64, :96], small.pixels)
    assert not images[0, :, 64:].any() and not images[0, :, :, 96:].any()
    assert len(sizes) == len(targets) == 2


def test_the_rate_warms_up_and_steps_down(scenes, tmp_path):
    recipe = config(scenes, tmp_path, lr=0.003, lr_step=16, warmup_steps=None, epochs=22)

    assert _rate(recipe, 0, 100) == pytest.approx(0.003 * 0.001)
    assert _rate(recipe, 99, 100) == pytest.approx(0.003)
    assert _rate(recipe, 1599, 100) == pytest.approx(0.003)
    assert _rate(recipe, 1600, 100) == pytest.approx(0.0003)


def test_a_loss_that_is_no_number_ends_the_run(scenes, tmp_path):
    with pytest.raises(LossExplodedError, match="lower --lr"):
        train(config(scenes, tmp_path, lr=1e12, warmup_steps=0, epochs=20))


def test_scenes_in_which_nobody_is_labelled_are_refused(scenes, tmp_path):
    empty = tmp_path / "empty"
    shutil.copytree(scenes, empty)
    annotations = json.loads((empty / "annotations.json").read_text())
    (empty / "annotations.json").write_text(json.dumps(annotations | {"boxes": [], "queries": []}))

    with pytest.raises(DatasetError, match="nobody is labelled"):
        train(config(empty, tmp_path / "run"))


def test_the_command_says_in_one_line_what_is_wrong(tmp_path, capsys):
    code = main(["--data", str(tmp_path / "nowhere"), "--out", str(tmp_path / "run")])

    assert code == 2
    assert "annotations.json: no such file" in capsys.readouterr().err


def test_the_command_names_a_flag_out_of_range(tmp_path, capsys):
    code = main(["--data", str(tmp_path), "--out", str(tmp_path / "run"), "--epochs", "0"])

    assert code == 2
    assert "--epochs" in capsys.readouterr().err


def _rule():
    from models.preprocess import InputRule

    return InputRule(min_size=128, max_size=192)
