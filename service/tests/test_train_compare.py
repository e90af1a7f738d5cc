"""The comparison: every head with every seed by one recipe, told with its spread."""

import json

import pytest

torch = pytest.importorskip("torch")

from models.datasets.synthetic import write_synthetic  # noqa: E402
from models.model_card import load_card  # noqa: E402
from service.tests.training import flags  # noqa: E402
from service.train.compare import CompareConfig, main  # noqa: E402
from service.train.presets import PRESETS  # noqa: E402
from service.train.steps import Steps  # noqa: E402

pytestmark = [
    pytest.mark.torch,
    pytest.mark.filterwarnings("default::DeprecationWarning"),
]


@pytest.fixture(scope="module")
def compared(tmp_path_factory):
    """The command line, of two heads and two seeds, and where its runs are."""
    out = tmp_path_factory.mktemp("compare")
    for name, seed in (("train", 3), ("test", 4)):
        write_synthetic(out / name, scenes=6, persons=3, cameras=2, size=(192, 128), seed=seed)
    given = flags(
        out / "train", out / "runs", val=out / "test", epochs=1, score_threshold=0.01,
        heads=["oim", "nae_plus"], seeds=[1, 2],
    )  # fmt: skip
    assert main(given) == 0
    return given, out / "runs"


def test_each_head_is_trained_with_each_seed_and_told_with_its_spread(compared):
    _, out = compared

    runs = {run.name: load_card(run / "model") for run in out.iterdir() if run.is_dir()}
    text = (out / "comparison.txt").read_text()
    told = json.loads((out / "comparison.json").read_text())

    assert {name: card.head for name, card in runs.items()} == {
        "oim-1": "oim", "oim-2": "oim", "nae_plus-1": "nae_plus", "nae_plus-2": "nae_plus",
    }  # fmt: skip
    assert {card.training["recipe"]["seed"] for card in runs.values()} == {1, 2}
    assert "±" in text
    assert "class-weighted similarity helps OIM" in text
    assert "NAE has a higher search mAP than OIM: no model of head NAE was given" in text
    for head in ("oim", "nae_plus"):
        for ranked in ("cws", "no_cws"):
            assert len(told["heads"][head][ranked]) == 2
    assert told["heads"]["oim"]["no_cws"][0]["data"]["class_weighted"] is False


def test_what_is_trained_is_not_trained_again(compared, monkeypatch, capsys):
    given, out = compared
    text = (out / "comparison.txt").read_text()
    monkeypatch.setattr(Steps, "make", lambda *args, **more: pytest.fail("it trains"))

    assert main(given) == 0

    assert capsys.readouterr().out == text


@pytest.mark.parametrize("flag", ["--head", "--seed"])
def test_flags_of_a_single_run_are_refused(tmp_path, capsys, flag):
    assert main([flag, "1", "--data", "a", "--val", "b", "--out", str(tmp_path / "run")]) == 2

    assert f"{flag} is of one run: pass {flag}s" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_a_seed_twice_is_refused(tmp_path):
    with pytest.raises(ValueError, match="expected each once"):
        CompareConfig(data=["a"], val="b", out=tmp_path, seeds=[1, 1])


def test_one_run_has_the_recipe_of_all(tmp_path):
    config = CompareConfig(data=["a"], val="b", out=tmp_path, preset="generated", epochs=3)

    run = config.run("nae_plus", 2)

    assert (run.head, run.seed, run.out, run.epochs) == ("nae_plus", 2, tmp_path / "nae_plus-2", 3)
    assert run.lr == PRESETS["generated"].values["lr"]
    assert run.resume is False
