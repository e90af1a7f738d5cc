"""Training on crops alone, with a teacher's answers: what is shown, and what is learned of it."""

import io

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("torch")

import torch

from models.datasets.crops import key_of
from models.datasets.teacher import Answers
from models.errors import DatasetError, PersonSearchError
from models.preprocess import InputRule
from service.tests.training import RECIPE, run, told_losses
from service.train.answers import TeachersAnswers
from service.train.checkpoint import load_checkpoint
from service.train.config import TrainConfig
from service.train.crops import STORED, CropData, stacked
from service.train.live_teacher import LiveTeacher
from service.train.loop import train
from service.train.views import COLUMNS, ROWS, Views, compressed

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


def test_places_grow_with_the_scale_of_the_batch(crops):
    data = CropData([crops], rule=RULE, scale_jitter=2.0)

    sizes = [data.sample(0, rng(), scale=scale).size for scale in (-1, 0, 1)]

    assert sizes == [(32, 32), (64, 32), (128, 64)]


def test_a_batch_has_all_crops_of_one_size_and_says_how_wide_they_were(crops, answers):
    data = CropData([crops], rule=RULE, answers=answers)
    scenes = [data.sample(i, rng()) for i in range(5)]
    for scene in scenes:
        scene.target["seed"] = 3

    batch = stacked(scenes)

    assert tuple(batch.images.shape) == (5, 3, *STORED) and batch.images.dtype == torch.uint8
    (target,) = batch.targets
    np.testing.assert_allclose(target["aspects"], 40 / 96)
    assert target["answers"].shape == (5, DIM) and target["seed"] == 3


def plain(colours, height=192, width=96):
    """Crops of one colour each."""
    rows = torch.tensor(colours, dtype=torch.uint8)
    return rows[:, :, None, None].expand(-1, -1, height, width).contiguous()


def shown(count, views, *, size=(128, 64), seed=0):
    """Red people among green ones; of each the part of the picture in the box."""
    colours = [COLOURS[1] if n % 2 == 0 else COLOURS[2] for n in range(count)]
    numbers = torch.arange(count)
    made = views.show(plain(colours), torch.full((count,), 0.4), numbers, size=size, seed=seed)
    parts = []
    for picture, boxes in zip(made.pictures, made.boxes, strict=True):
        for x1, y1, x2, y2 in boxes.int().tolist():
            parts.append(picture[:, y1:y2, x1:x2])
    return made, parts


def test_crops_lie_side_by_side_and_their_boxes_with_them():
    count = COLUMNS * ROWS + 1

    made, parts = shown(count, Views(augment=False, redress=False), size=(64, 32))

    assert tuple(made.pictures.shape) == (2, 3, 64 * ROWS, 32 * COLUMNS)
    assert [len(boxes) for boxes in made.boxes] == [COLUMNS * ROWS, 1]
    for number, part in enumerate(parts):
        assert tuple(part.shape) == (3, 64, 32)
        wanted = torch.tensor(COLOURS[1 if number % 2 == 0 else 2]) / 255
        assert bool((part.amax(dim=(1, 2)) - wanted).abs().max() < 1e-3)
    assert bool((made.pictures[1, :, :, 32:] == 0).all())


def test_how_crops_are_shown_depends_on_the_seed_alone():
    views = Views(augment=True, redress=True)

    first, _ = shown(20, views, seed=7)
    again, _ = shown(20, views, seed=7)
    other, _ = shown(20, views, seed=8)

    assert bool((first.pictures == again.pictures).all())
    assert all(bool((a == b).all()) for a, b in zip(first.boxes, again.boxes, strict=True))
    assert not bool((first.pictures == other.pictures).all())


def test_most_of_a_found_box_is_the_person_and_it_lies_in_the_place():
    """Red is told from the green of the others, however light and colours were changed."""
    made, parts = shown(160, Views(augment=True, redress=False))

    shares = []
    for number, part in enumerate(parts):
        assert part.shape[1] > 40 and part.shape[2] > 8
        red, green = (part[0] > part[1]).float().mean(), (part[1] > part[0]).float().mean()
        shares.append(float(red if number % 2 == 0 else green))
    assert np.median(shares) > 0.85
    assert min(shares) > 0.2
    for boxes in made.boxes:
        for number, (x1, y1, x2, y2) in enumerate(boxes.tolist()):
            left, top = number % COLUMNS * 64, number // COLUMNS * 128
            assert left <= x1 < x2 <= left + 64 and top <= y1 < y2 <= top + 128


def test_who_wears_others_clothes_is_nobody_known():
    made, _ = shown(400, Views(augment=True, redress=True))
    kept, _ = shown(400, Views(augment=True, redress=False))

    unnamed = (made.person_ids < 0).float().mean()
    assert 0.35 < float(unnamed) < 0.65
    assert bool((kept.person_ids >= 0).all())


def test_compression_loses_what_jpeg_loses():
    noise = torch.rand(2, 3, 64, 32, generator=torch.Generator().manual_seed(0))
    smooth = torch.linspace(0, 1, 64)[None, None, :, None].expand(2, 3, 64, 32)

    def apart(pixels, quality):
        return float((compressed(pixels, torch.tensor([quality] * 2)) - pixels).abs().mean())

    assert apart(smooth, 90.0) < 0.01 < apart(smooth, 5.0) < 0.06
    assert apart(noise, 90.0) > 0.1  # colours at half the size, as JPEG has them
    grey = noise.mean(dim=1, keepdim=True).expand(-1, 3, -1, -1)
    assert apart(grey, 90.0) < 0.03 < 0.1 < apart(grey, 10.0)
    for quality in (20, 50, 80):
        stream = io.BytesIO()
        pixels = (grey[0].permute(1, 2, 0) * 255).byte().numpy()
        Image.fromarray(pixels).save(stream, "JPEG", quality=quality)
        theirs = torch.from_numpy(np.array(Image.open(stream))).permute(2, 0, 1) / 255
        ours = compressed(grey[:1], torch.tensor([float(quality)]))[0]
        assert float((ours - theirs).abs().mean()) < 0.015


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    """A teacher whose answer is made of the means of a picture's colours."""
    openvino = pytest.importorskip("openvino", reason="making a teacher takes OpenVINO")
    from openvino import opset13 as ops

    given = ops.parameter([1, 3, 32, 16], np.float32, name="data")
    mean = ops.reduce_mean(given, ops.constant(np.array([2, 3])), keep_dims=False)
    wide = ops.constant(np.random.default_rng(0).normal(size=(3, DIM)).astype(np.float32))
    answer = ops.matmul(mean, wide, False, False)
    path = tmp_path_factory.mktemp("network") / "colours.xml"
    openvino.save_model(openvino.Model([answer], [given], "colours"), str(path), False)
    return path


def test_a_teacher_is_asked_about_what_is_in_the_boxes_and_answers_about_the_mean(network):
    teacher = LiveTeacher(network, dim=DIM, num_ids=0)
    teacher.place(torch.device("cpu"))
    picture = torch.zeros(1, 3, 64, 64)
    picture[:, 0, :, :32] = 1
    picture[:, 2, :, 32:] = 1
    halves = torch.tensor([[0.0, 0, 32, 64], [32, 0, 64, 64]])

    red, blue = teacher.answers(picture, [halves], torch.tensor([-1, -1]))

    assert float(red.norm()) == pytest.approx(1, abs=1e-5)
    # Two answers lie opposite each other about their mean.
    assert float(red @ blue) == pytest.approx(-1, abs=1e-4)
    assert not len(teacher.answers(picture, [halves[:0]], torch.zeros(0, dtype=torch.long)))


def test_of_a_known_person_the_mean_of_the_answers_before_is_mixed_in(network):
    teacher = LiveTeacher(network, dim=DIM, num_ids=2, mean_share=1.0)
    teacher.place(torch.device("cpu"))
    pictures = torch.rand(2, 3, 32, 16, generator=torch.Generator().manual_seed(0))
    pictures[1] *= torch.tensor([1.0, 0.3, 0.1])[:, None, None]
    boxes = [torch.tensor([[0.0, 0, 16, 32]])] * 2

    first = teacher.answers(pictures, boxes, torch.tensor([0, -1]))
    then = teacher.answers(pictures.flip(0), boxes, torch.tensor([0, -1]))

    assert bool((teacher.people[1] == 0).all())
    np.testing.assert_allclose(then[0], first[0], atol=1e-5)  # person 0 as they were before


def test_an_answer_of_another_length_is_refused(network):
    with pytest.raises(PersonSearchError, match="its answers have 16 numbers, and an embedding 8"):
        LiveTeacher(network, dim=8, num_ids=0)


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
