"""Training on crops alone, with a teacher's answers: what is shown, and what is learned of it."""

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("torch")

from models.datasets.crops import key_of
from models.datasets.teacher import Answers
from models.errors import DatasetError
from models.preprocess import InputRule
from service.tests.training import RECIPE, run, told_losses
from service.train.answers import TeachersAnswers
from service.train.checkpoint import load_checkpoint
from service.train.config import TrainConfig
from service.train.crops import COLUMNS, ROWS, CropData, as_found, side_by_side
from service.train.loop import train

DIM = 16
RULE = InputRule(min_size=32, max_size=64)
COLOURS = {1: (230, 20, 20), 2: (20, 200, 30), 3: (30, 40, 220)}


@pytest.fixture(scope="module")
def crops(tmp_path_factory):
    """Three people of one colour each, from two cameras, and two crops of nobody known."""
    directory = tmp_path_factory.mktemp("crops")
    rng = np.random.default_rng(0)
    for person, colour in COLOURS.items():
        for camera in (1, 2):
            for n in range(2):
                pixels = np.clip(np.array(colour) + rng.normal(0, 12, (96, 40, 3)), 0, 255)
                name = f"{person:04d}_c{camera}s1_{n:06d}_00.jpg"
                Image.fromarray(pixels.astype(np.uint8)).save(directory / name)
    for n in range(2):
        pixels = rng.integers(0, 256, (96, 40, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(directory / f"-1_c1s1_{n:06d}_00.jpg")
    return directory


def names(directory, beginning=""):
    return sorted(p for p in directory.iterdir() if p.name.startswith(beginning))


@pytest.fixture(scope="module")
def answers_file(crops, tmp_path_factory):
    """About everybody but the first crop of person 1: a direction of the person's, and noise."""
    rng = np.random.default_rng(1)
    directions = rng.normal(size=(4, DIM))
    vectors = {}
    for path in names(crops)[0:2] + names(crops, "000")[1:]:
        person = max(0, int(path.name.split("_")[0]))
        vector = directions[person] + rng.normal(0, 0.3, DIM)
        vectors[key_of(path.read_bytes())] = (vector / np.linalg.norm(vector)).astype(np.float16)
    path = tmp_path_factory.mktemp("answers") / "answers.npz"
    Answers("somebody", vectors).write(path)
    return path


@pytest.fixture
def answers(answers_file):
    return TeachersAnswers([answers_file], dim=DIM)


def rng(seed=0):
    return np.random.default_rng(seed)


def test_answers_are_unit_vectors_about_their_mean(answers, crops):
    rows = np.array([answers.of_crop(path.read_bytes()) for path in names(crops)])

    lengths = np.linalg.norm(rows, axis=1)
    assert sorted(set(lengths.round(2).tolist())) == [0, 1]
    assert (lengths == 0).sum() == 1
    assert np.linalg.norm(rows.mean(axis=0)) < 0.3


def test_answers_of_another_length_or_teacher_are_refused(answers_file, tmp_path):
    with pytest.raises(DatasetError, match="the answers have 16 numbers, and an embedding 8"):
        TeachersAnswers([answers_file], dim=8)
    Answers("another", {1: np.ones(DIM, np.float16)}).write(tmp_path / "other.npz")
    with pytest.raises(DatasetError, match="expected one teacher, got another, somebody"):
        TeachersAnswers([answers_file, tmp_path / "other.npz"], dim=DIM)


def test_people_are_numbered_over_all_sources_and_unnamed_ones_need_an_answer(crops, answers):
    without = CropData([crops], rule=RULE)
    twice = CropData([crops, crops], rule=RULE, answers=answers)

    assert without.num_ids == 3 and sorted(set(without.person_ids.tolist())) == [0, 1, 2]
    assert without.left_out == 2 and len(without) == 12
    assert twice.num_ids == 6 and set(twice.person_ids.tolist()) == {-1, 0, 1, 2, 3, 4, 5}
    assert twice.left_out == 0 and len(twice) == 28


def test_the_mean_of_a_person_can_be_mixed_into_the_answers(crops, answers):
    own = CropData([crops], rule=RULE, answers=answers)
    mean = CropData([crops], rule=RULE, answers=answers, mean_share=1.0)

    def rows(data, person):
        index = np.flatnonzero(data.person_ids == person)
        return np.array([data.sample(i, rng()).target["answers"][0].numpy() for i in index])

    for person in (1, 2):
        apart, together = rows(own, person), rows(mean, person)
        assert np.ptp(together, axis=0).max() < 1e-6
        wanted = apart.mean(axis=0)
        np.testing.assert_allclose(together[0], wanted / np.linalg.norm(wanted), atol=1e-5)
    np.testing.assert_allclose(rows(own, -1), rows(mean, -1))


def test_a_crop_without_augmentation_fills_its_place(crops):
    data = CropData([crops], rule=RULE)

    scene = data.sample(0, rng())

    assert tuple(scene.pixels.shape) == (3, 64, 32) and scene.size == (64, 32)
    assert scene.target["boxes"].tolist() == [[0, 0, 32, 64]]


def test_places_grow_with_the_scale_of_the_batch(crops):
    data = CropData([crops], rule=RULE, scale_jitter=2.0, augment=True)

    sizes = [data.sample(0, rng(), scale=scale).size for scale in (-1, 0, 1)]

    assert sizes == [(32, 32), (64, 32), (128, 64)]


def test_how_a_crop_is_found_depends_on_the_seed_alone_and_its_box_is_in_its_place(crops):
    person, other = (np.array(Image.open(path)) for path in names(crops, "000")[:5:4])

    for seed in range(40):
        place, box = as_found(person, other, (64, 32), rng(seed))
        again, same = as_found(person, other, (64, 32), rng(seed))
        assert np.array_equal(place, again) and np.array_equal(box, same)
        assert place.shape == (64, 32, 3)
        assert 0 <= box[0] < box[2] <= 32 and 0 <= box[1] < box[3] <= 64
        assert box[2] - box[0] > 5 and box[3] - box[1] > 20


def test_most_of_a_found_box_is_the_person(crops):
    """Red is told from the green of the other crop, however light and colours were changed."""
    person = np.full((96, 40, 3), COLOURS[1], np.uint8)
    other = np.full((96, 40, 3), COLOURS[2], np.uint8)

    shares = []
    for seed in range(60):
        place, (x1, y1, x2, y2) = as_found(person, other, (128, 64), rng(seed))
        part = place[int(y1) : int(y2), int(x1) : int(x2)].astype(int)
        shares.append((part[..., 0] > part[..., 1]).mean())

    assert np.median(shares) > 0.85
    assert min(shares) > 0.3


def test_crops_lie_side_by_side_and_their_boxes_with_them(crops, answers):
    data = CropData([crops], rule=RULE, answers=answers)
    scenes = [data.sample(i % len(data), rng(i)) for i in range(COLUMNS * ROWS + 1)]

    batch = side_by_side(scenes)

    assert tuple(batch.images.shape) == (2, 3, 64 * ROWS, 32 * COLUMNS)
    assert [len(target["boxes"]) for target in batch.targets] == [COLUMNS * ROWS, 1]
    assert batch.targets[0]["answers"].shape == (COLUMNS * ROWS, DIM)
    boxes = [box for target in batch.targets for box in target["boxes"].int().tolist()]
    for number, (scene, (x1, y1, x2, y2)) in enumerate(zip(scenes, boxes, strict=True)):
        image = batch.images[number // (COLUMNS * ROWS)]
        assert bool((image[:, y1:y2, x1:x2] == scene.pixels).all())


PEOPLE = {
    "reid_loss": "cosine_softmax", "queue_size": 0, "only_reid": True, "min_size": 64,
    "max_size": 128, "batch_size": 14, "optimizer": "adamw", "lr": 0.003, "head": "nae_parts",
    "epochs": 12, "freeze": 4, "channels_last": True, "log_every": 2, "checkpoint_every": 6,
    "reid_loss_weight": 0.0,
}  # fmt: skip


def of_crops(crops, out, **changes):
    return TrainConfig(**{**RECIPE, **PEOPLE, "crops": [crops], "out": out, **changes})


def test_a_network_learns_a_teachers_answers_and_goes_on_exactly(crops, answers_file, tmp_path):
    (tmp_path / "whole").mkdir()
    (tmp_path / "parts").mkdir()
    learned = of_crops(crops, tmp_path / "whole", teacher=[answers_file], augment=True)

    assert train(learned) is None
    told = told_losses(tmp_path / "whole", "train/loss_teacher")
    assert told[12] < 0.7 * told[2]

    first = learned.model_copy(update={"out": tmp_path / "parts"})
    assert train(first.model_copy(update={"resume": False})) is None
    whole, parts = (load_checkpoint(tmp_path / n / "checkpoint.pt") for n in ("whole", "parts"))
    assert whole["steps"] == parts["steps"] == 12
    for name, tensor in whole["network"].items():
        assert bool((tensor == parts["network"][name]).all()), name


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["--crops", "{crops}"], "pass --only-reid with it"),
        (["--crops", "{crops}", "--data", "{crops}", "--only-reid"], "either --data or --crops"),
        ([], "either --data or --crops"),
        (["--crops", "{crops}", "--only-reid", "--evaluate-every", "1"], "pass --val"),
    ],
)
def test_what_crops_cannot_do_is_said(crops, tmp_path, capsys, words, problem):
    given = [word.format(crops=crops) for word in words]

    code, lines = run(capsys, *given, "--out", tmp_path / "run")

    assert code == 2
    assert problem in " ".join(lines)


def test_answers_about_other_crops_are_refused(crops, tmp_path, capsys):
    Answers("somebody", {1: np.ones(256, np.float16)}).write(tmp_path / "other.npz")

    code, lines = run(
        capsys, "--crops", crops, "--only-reid", "--teacher", tmp_path / "other.npz",
        "--out", tmp_path / "run", "--backbone", "efficientnet_lite0", "--workers", "0",
    )  # fmt: skip

    assert code == 2
    assert "no answers about any of the crops" in lines[-1]
