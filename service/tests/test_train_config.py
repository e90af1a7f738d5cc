"""Flags and presets: what a run is made of, and what is refused before it starts."""

import os
import signal

import pytest
from pydantic import ValidationError

pytest.importorskip("torch")

from service.tests.training import run
from service.train import __main__
from service.train.checkpoint import save_checkpoint
from service.train.config import TrainConfig
from service.train.interrupts import Interrupts
from service.train.presets import PRESETS

pytestmark = pytest.mark.torch

ANYWHERE = {"data": ["scenes"], "out": "run"}


@pytest.fixture
def parsed(monkeypatch, tmp_path):
    """What the command makes of its flags."""

    def parse(*words):
        seen = []
        monkeypatch.setattr(__main__, "train", seen.append)
        arguments = ["--data", "scenes", "--out", str(tmp_path / "run"), *words]
        assert __main__.main(arguments) == 0
        return seen[0]

    return parse


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_fills_what_no_flag_says(parsed, name):
    config = parsed("--preset", name, "--weights", "nae.pt", "--lr", "0.5", "--batch-size", "5")

    values = {**PRESETS[name].values, "lr": 0.5, "batch_size": 5}
    assert {key: getattr(config, key) for key in values} == values
    assert config.model_dump()["epochs"] == PRESETS[name].values["epochs"]


def test_a_flag_wins_also_where_it_says_the_default(parsed):
    assert parsed("--preset", "quick", "--epochs", "22", "--no-channels-last").epochs == 22
    assert not parsed("--preset", "quick", "--no-channels-last").channels_last


def test_there_is_a_published_recipe_for_each_head_and_dataset():
    published = {n for n, preset in PRESETS.items() if preset.values["backbone"] == "resnet50"}

    assert published == {
        f"{head}-{dataset}"
        for head in ("nae", "nae_plus", "oim")
        for dataset in ("cuhk_sysu", "prw")
    }
    for_prw = PRESETS["nae-prw"]
    assert (for_prw.values["epochs"], for_prw.values["queue_size"]) == (18, 500)
    assert "stand in" in for_prw.source


def test_the_published_recipe_is_the_default():
    plain = TrainConfig(**ANYWHERE)

    assert TrainConfig(**ANYWHERE, preset="nae-cuhk_sysu").model_dump() == {
        **plain.model_dump(), "preset": "nae-cuhk_sysu", "min_size": 900, "max_size": 1500,
    }  # fmt: skip


def test_a_saved_configuration_comes_back_as_it_was():
    config = TrainConfig(**ANYWHERE, preset="quick", lr=0.1)

    assert TrainConfig(**config.model_dump(mode="json")) == config


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["--preset", "nae_plus-prw"], "starts from trained NAE weights"),
        (["--preset", "best"], "unknown preset 'best': expected one of nae-cuhk_sysu"),
        (["--pretrained"], "no package ships ImageNet weights of resnet50"),
        (["--epochs", "0"], "--epochs"),
        (["--scale-jitter", "0.9"], "--scale-jitter: Input should be greater than or equal to 1"),
        (["--optimizer", "adam"], "--optimizer: Input should be 'sgd' or 'adamw'"),
        (["--reid-loss", "softmax"], "--reid-loss: Input should be 'oim', 'oim_smr' or 'cosine"),
        (["--device", "cpu", "--precision", "fp16"], "fp16 needs a GPU"),
    ],
)
def test_what_cannot_be_run_is_said_in_one_line(scenes_of_one, tmp_path, capsys, words, problem):
    code, lines = run(capsys, "--data", scenes_of_one, "--out", tmp_path / "run", *words)

    assert code == 2
    assert len(lines) == 1 and problem in lines[0]


@pytest.fixture(scope="module")
def scenes_of_one(tmp_path_factory):
    from models.datasets.synthetic import write_synthetic

    directory = tmp_path_factory.mktemp("scenes")
    write_synthetic(directory, scenes=6, persons=2, cameras=1, size=(64, 64), seed=1)
    return directory


def test_an_unknown_field_is_refused():
    with pytest.raises(ValidationError, match="learning_rate"):
        TrainConfig(**ANYWHERE, learning_rate=1)


def test_scores_are_shifted_where_there_is_a_logit_to_shift():
    with pytest.raises(
        ValidationError, match=r"--score-shift is for --head nae or nae_parts, and .* is oim"
    ):
        TrainConfig(**ANYWHERE, head="oim", score_shift=2)


NO_CHECKPOINT = "there is no checkpoint of this run yet; the same command starts it again"
ITS_CHECKPOINT = "the same command with --resume goes on from {}"


@pytest.mark.parametrize(
    ("words", "there_before", "writes", "says"),
    [
        ([], False, False, NO_CHECKPOINT),
        ([], True, False, NO_CHECKPOINT),  # another run's
        ([], True, True, ITS_CHECKPOINT),
        (["--resume"], True, False, ITS_CHECKPOINT),
    ],
)
def test_a_stopped_run_says_how_it_goes_on(
    monkeypatch, tmp_path, capsys, words, there_before, writes, says
):
    checkpoint = tmp_path / "checkpoint.pt"
    if there_before:
        save_checkpoint(checkpoint, {"network": {}})

    def stopped(config):
        if writes:
            save_checkpoint(checkpoint, {"network": {}})
        raise KeyboardInterrupt

    monkeypatch.setattr(__main__, "train", stopped)

    code, lines = run(capsys, "--data", "scenes", "--out", tmp_path, *words)

    assert code == 130
    assert lines == [f"interrupted: {says.format(checkpoint)}"]


def test_a_second_ctrl_c_does_not_wait_for_the_step():
    with pytest.raises(KeyboardInterrupt), Interrupts() as interrupts:
        os.kill(os.getpid(), signal.SIGINT)
        assert interrupts.noted()
        os.kill(os.getpid(), signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_directory_with_a_number_for_a_name_is_a_directory(tmp_path, capsys):
    code, lines = run(capsys, "--data", "2024", "--out", tmp_path / "run")

    assert code == 2
    assert lines == ["error: 2024: no such file or directory"]


def test_a_word_that_reads_like_json_is_refused_in_one_line(tmp_path, capsys):
    code, lines = run(capsys, "--data", "nan", "--out", tmp_path / "run")

    assert code == 2
    assert len(lines) == 1 and "error parsing value for field" in lines[0]
