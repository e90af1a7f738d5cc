"""Training: a run reaches a model file, goes on exactly, and refuses what it cannot use."""

import json
import shutil

import pytest

torch = pytest.importorskip("torch")

from models.datasets.synthetic import write_synthetic  # noqa: E402
from models.detector import OnnxDetector  # noqa: E402
from models.errors import PersonSearchError  # noqa: E402
from models.model_card import load_card  # noqa: E402
from models.nn.export import network_of  # noqa: E402
from service.tests.training import config, learn, told_losses  # noqa: E402
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
    """The same run, interrupted in a step as by Ctrl-C, then resumed; evaluated in between, with
    scenes prepared by another process."""
    run = tmp_path_factory.mktemp("resumed")
    interrupted = config(scenes, run, evaluate_every=1)
    make, made = Steps.make, 0

    def interrupted_make(self, *arguments, **more):
        nonlocal made
        made += 1
        if made > 5:
            raise KeyboardInterrupt
        return make(self, *arguments, **more)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Steps, "make", interrupted_make)
        with pytest.raises(KeyboardInterrupt):
            train(interrupted)
    assert load_checkpoint(run / "checkpoint.pt")["steps"] == 3  # mid-epoch
    with pytest.MonkeyPatch.context() as patch:
        learn(patch, interrupted.model_copy(update={"resume": True, "workers": 1}))
    return run


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


def test_evaluations_between_epochs_are_told_once_though_a_step_was_made_twice(resumed):
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


def test_the_rate_warms_up_and_steps_down(scenes, tmp_path):
    recipe = config(scenes, tmp_path, lr=0.003, lr_step=16, warmup_steps=None, epochs=22)

    assert _rate(recipe, 0, 100) == pytest.approx(0.003 * 0.001)
    assert _rate(recipe, 99, 100) == pytest.approx(0.003)
    assert _rate(recipe, 1599, 100) == pytest.approx(0.003)
    assert _rate(recipe, 1600, 100) == pytest.approx(0.0003)


def test_a_loss_that_explodes_ends_the_run_naming_step_and_scenes(scenes, tmp_path):
    with pytest.raises(LossExplodedError, match=r"step \d+: .*scenes c\d_\d+.*lower --lr"):
        train(config(scenes, tmp_path, lr=1e12, warmup_steps=0, epochs=20))
