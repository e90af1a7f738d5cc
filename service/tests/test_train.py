"""Training: a run reaches a model file, goes on exactly, and refuses what it cannot use."""

import json
import os
import shutil
import signal

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from models.datasets import compose  # noqa: E402
from models.datasets.synthetic import write_synthetic  # noqa: E402
from models.detector import OnnxDetector  # noqa: E402
from models.errors import PersonSearchError  # noqa: E402
from models.model_card import load_card  # noqa: E402
from models.nn.export import network_of  # noqa: E402
from service.tests.training import config, edited, learn, told_losses  # noqa: E402
from service.train import loop  # noqa: E402
from service.train.checkpoint import load_checkpoint  # noqa: E402
from service.train.evaluation import in_words  # noqa: E402
from service.train.loop import _rate, train  # noqa: E402
from service.train.steps import LossExplodedError, Steps  # noqa: E402

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


@pytest.fixture(scope="module")
def finished(scenes, tmp_path_factory):
    run = tmp_path_factory.mktemp("run")
    return run, train(config(scenes, run))


@pytest.fixture(scope="module")
def resumed(scenes, tmp_path_factory):
    """The same run, stopped three times and resumed: by a crash in a step, by Ctrl-C in a step and
    by Ctrl-C in the evaluation between the epochs; with scenes prepared by another process."""
    run = tmp_path_factory.mktemp("resumed")
    recipe = config(scenes, run, evaluate_every=1, workers=1)
    make, evaluate = Steps.make, loop.evaluate_network

    def crash(self, batch, *, rate, number):
        if number == 4:
            raise RuntimeError("crash")
        return make(self, batch, rate=rate, number=number)

    def press_in_evaluation(*arguments, **more):
        press_ctrl_c()
        return evaluate(*arguments, **more)

    def press_in_step_6(self, batch, *, rate, number):
        if number == 6:
            press_ctrl_c()
        return make(self, batch, rate=rate, number=number)

    kept = []
    for where, name, patched, stopped in (
        (Steps, "make", crash, RuntimeError),
        (loop, "evaluate_network", press_in_evaluation, KeyboardInterrupt),
        (Steps, "make", press_in_step_6, KeyboardInterrupt),
    ):
        again = recipe.model_copy(update={"resume": bool(kept)})
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(where, name, patched)
            with pytest.raises(stopped):
                train(again)
        kept.append(load_checkpoint(run / "checkpoint.pt")["steps"])
    assert kept == [3, 4, 6]  # every three steps, the end of an epoch, the step of Ctrl-C
    with pytest.MonkeyPatch.context() as patch:
        learn(patch, recipe.model_copy(update={"resume": True}))
    return run


def press_ctrl_c():
    os.kill(os.getpid(), signal.SIGINT)


def test_a_run_ends_with_a_model_file_that_serving_loads(finished, scenes):
    run, model = finished

    detector = OnnxDetector(model)

    card = load_card(model)
    assert model == run / "model"
    assert card.training["steps"] == 8
    assert card.training["scenes"][0]["scenes"] == 8
    assert len(card.metrics) == 1
    assert detector.card.embedding_dim == 16


def test_a_run_tells_its_losses_and_what_the_model_file_reaches(finished):
    run, _ = finished

    assert list(told_losses(run)) == [8]
    (line,) = (run / "metrics.jsonl").read_text().splitlines()
    told = json.loads(line)
    assert (told["steps"], told["epochs"], told["of"]) == (8, 2, "model file")
    assert set(told["detection"]) == {"recall", "ap"}


def test_a_resumed_run_equals_an_uninterrupted_one_bit_for_bit(finished, resumed):
    whole = load_checkpoint(finished[0] / "checkpoint.pt")
    again = load_checkpoint(resumed / "checkpoint.pt")

    assert whole["steps"] == again["steps"] == 8
    for name, tensor in whole["network"].items():
        assert torch.equal(tensor, again["network"][name]), name
    for key, state in whole["optimizer"]["state"].items():
        assert torch.equal(
            state["momentum_buffer"], again["optimizer"]["state"][key]["momentum_buffer"]
        )
    assert torch.equal(whole["rng"], again["rng"])
    assert whole["watch"] == again["watch"]
    assert whole["network"]["roi_heads.reid_loss.lookup_table"].any()


def test_an_evaluation_that_was_interrupted_is_made_after_all_and_told_once(resumed):
    lines = (resumed / "metrics.jsonl").read_text().splitlines()

    told = [json.loads(line) for line in lines]
    assert [(line["steps"], line["epochs"], line["of"]) for line in told] == [(4, 1, "network")]
    assert told_losses(resumed, "detection/ap").keys() == {4}


def test_what_was_not_measured_is_said_with_the_reason():
    nothing = {"detection": None, "search": None}

    assert in_words(nothing) == "detection: nobody to detect; search: no queries"
    assert in_words({**nothing, "search": {"map": 0.125}}).endswith("search: map 12.5")


def test_a_checkpoint_is_enough_to_build_its_network(finished):
    content = load_checkpoint(finished[0] / "checkpoint.pt")

    network = network_of(content)

    assert not network.training
    assert network.card.input.min_size == 128


def test_resuming_with_another_recipe_is_refused(finished, scenes, tmp_path):
    shutil.copy(finished[0] / "checkpoint.pt", tmp_path)

    with pytest.raises(PersonSearchError, match=r"lr was 0\.003 and is 0\.1"):
        train(config(scenes, tmp_path, resume=True, lr=0.1))


def test_a_finished_run_writes_its_model_again_with_shifted_scores(finished, scenes, tmp_path):
    run, model = finished
    shutil.copytree(run, tmp_path / "run")

    shifted = train(config(scenes, tmp_path / "run", resume=True, score_shift=2.0))

    feature_map = np.random.default_rng(1).random((12, 8, 112), np.float32)
    box = np.array([[20, 10, 60, 100]], np.float32)
    before, after = (
        OnnxDetector(written).head_outputs(feature_map, box)[1] for written in (model, shifted)
    )
    np.testing.assert_allclose(after - before, 2, rtol=1e-5)


def test_a_run_starts_from_the_weights_of_another(finished, scenes, tmp_path, monkeypatch):
    weights = finished[0] / "checkpoint.pt"
    before = load_checkpoint(weights)["network"]

    # Too slow a rate to change anything but the statistics and the memory.
    after = learn(
        monkeypatch,
        config(
            scenes,
            tmp_path,
            weights=weights,
            head="nae_plus",
            epochs=1,
            scenes_per_epoch=2,
            lr=1e-12,
        ),
    )

    name = "roi_heads.embedding_head.projectors.feat_res5.0.weight"
    assert after["network"][name].shape == (*before[name].shape, 1, 1)
    assert torch.allclose(after["network"][name].squeeze(), before[name])
    assert torch.allclose(after["network"]["backbone.0.1.weight"], before["backbone.0.1.weight"])


@pytest.mark.parametrize(
    "changes",
    [
        {"head": "oim", "reid_loss": "oim_smr"},
        {"head": "nae_plus_res5", "pixel_labels": "published", "precision": "bf16"},
    ],
    ids=lambda changes: changes["head"],
)
def test_every_kind_of_network_trains(scenes, tmp_path, monkeypatch, changes):
    one_step = config(scenes, tmp_path, epochs=1, scenes_per_epoch=2, focal=True, **changes)

    content = learn(monkeypatch, one_step)

    assert content["steps"] == 1
    network = network_of(content)
    assert all(p.isfinite().all() and p.dtype == torch.float32 for p in network.parameters())


# Two stages: people alone, then scenes of the same people.

DIRECTIONS = "roi_heads.reid_loss.directions"
PEOPLE_ALONE = {
    "only_reid": True, "reid_loss": "cosine_softmax", "optimizer": "adamw", "augment": True,
    "epochs": 1, "batch_size": 4, "scenes_per_epoch": 12, "warmup_steps": 0,
}  # fmt: skip


@pytest.fixture(scope="module")
def material(tmp_path_factory):
    """Composed scenes of ten people for training, two others for validation, and crops."""
    directory = tmp_path_factory.mktemp("material")
    sizes = ["--width", "160", "--height", "128", "--count", "8", "--val-count", "2"]
    assert compose.main([str(directory), "--drawn", "12", *sizes]) == 0
    return directory


@pytest.fixture(scope="module")
def alone(material, finished, tmp_path_factory):
    """A run that began with the weights of another and learned to tell people apart; and what it
    returned."""
    run = tmp_path_factory.mktemp("alone")
    start = {"weights": finished[0] / "checkpoint.pt", "name": "first"}
    return run, train(config(material / "crops", run, **PEOPLE_ALONE, **start))


def test_telling_people_apart_alone_leaves_a_checkpoint_and_no_model(alone):
    run, model = alone

    assert model is None
    assert not (run / "model").exists()
    content = load_checkpoint(run / "checkpoint.pt")
    assert content["steps"] == 3
    assert content["network"][DIRECTIONS].shape == (10, 16)
    assert list(told_losses(run, "train/loss_reid")) == [3]


def test_telling_people_apart_alone_changes_nothing_that_finds_them(alone, finished):
    before, after = (
        load_checkpoint(r / "checkpoint.pt")["network"] for r in (finished[0], alone[0])
    )

    changed = {
        name for name in before.keys() & after.keys() if not torch.equal(before[name], after[name])
    }
    finding = ("rpn.", "roi_heads.box_regressor.", "roi_heads.embedding_head.rescaler.")
    learned = {name for name in changed if name.endswith(("weight", "bias"))}
    assert not [name for name in learned if name.startswith(finding)]
    for part in ("backbone.", "roi_heads.box_head.", "roi_heads.embedding_head.projectors."):
        assert any(name.startswith(part) for name in learned)


def second_stage(monkeypatch, scenes, out, weights):
    """Two steps from some weights, too small to change a direction; the checkpoint."""
    # With the seed of the run before, new directions would begin as those did.
    changes = {"only_reid": False, "lr": 1e-12, "scenes_per_epoch": 4, "batch_size": 2, "seed": 2}
    return learn(monkeypatch, config(scenes, out, **PEOPLE_ALONE | changes, weights=weights))


def test_scenes_of_the_same_people_go_on_with_the_directions_of_their_crops(
    alone, material, tmp_path, monkeypatch
):
    weights = alone[0] / "checkpoint.pt"

    after = second_stage(monkeypatch, material / "train", tmp_path, weights)

    before = load_checkpoint(weights)
    assert after["people"] == before["people"]
    assert torch.allclose(after["network"][DIRECTIONS], before["network"][DIRECTIONS], atol=1e-9)
    assert after["build"]["reid_loss"] == "cosine_softmax"


def test_scenes_of_other_people_start_with_other_directions(alone, material, tmp_path, monkeypatch):
    others = edited(
        shutil.copytree(material / "train", tmp_path / "others"),
        lambda content: content.update(name="others"),
    )

    after = second_stage(monkeypatch, others, tmp_path / "run", alone[0] / "checkpoint.pt")

    before = load_checkpoint(alone[0] / "checkpoint.pt")["network"]
    directions = after["network"][DIRECTIONS]
    assert directions.shape == before[DIRECTIONS].shape
    cosines = torch.cosine_similarity(directions, before[DIRECTIONS])
    assert cosines.abs().mean() < 0.6
    name = "roi_heads.embedding_head.projectors.feat_res5.0.weight"
    assert torch.allclose(after["network"][name], before[name], atol=1e-9)


def test_telling_people_apart_goes_on_exactly_where_it_was_interrupted(
    alone, material, finished, tmp_path, monkeypatch
):
    make, made = Steps.make, 0

    def interrupted_make(self, *arguments, **more):
        nonlocal made
        made += 1
        if made > 2:
            raise KeyboardInterrupt
        return make(self, *arguments, **more)

    start = {"weights": finished[0] / "checkpoint.pt", "name": "first", "checkpoint_every": 1}
    interrupted = config(material / "crops", tmp_path, **PEOPLE_ALONE, **start)
    with monkeypatch.context() as patch:
        patch.setattr(Steps, "make", interrupted_make)
        with pytest.raises(KeyboardInterrupt):
            train(interrupted)

    assert train(interrupted.model_copy(update={"resume": True})) is None

    whole, again = (load_checkpoint(r / "checkpoint.pt")["network"] for r in (alone[0], tmp_path))
    for name, tensor in whole.items():
        assert torch.equal(tensor, again[name]), name


def test_the_rate_warms_up_and_steps_down(scenes, tmp_path):
    recipe = config(scenes, tmp_path, lr=0.003, lr_step=16, warmup_steps=None, epochs=22)

    assert _rate(recipe, 0, 100) == pytest.approx(0.003 * 0.001)
    assert _rate(recipe, 99, 100) == pytest.approx(0.003)
    assert _rate(recipe, 1599, 100) == pytest.approx(0.003)
    assert _rate(recipe, 1600, 100) == pytest.approx(0.0003)


def test_a_loss_that_explodes_ends_the_run_naming_step_and_scenes(scenes, tmp_path):
    with pytest.raises(LossExplodedError, match=r"step \d+: .*scenes c\d_\d+.*lower --lr"):
        train(config(scenes, tmp_path, lr=1e12, warmup_steps=0, epochs=20))
