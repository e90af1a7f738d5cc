"""What a run shows: the seed alone decides, batches are whole, and bad data is named."""

import dataclasses
import json
import shutil

import numpy as np
import pytest
from PIL import Image

torch = pytest.importorskip("torch")

from models.datasets.synthetic import write_synthetic  # noqa: E402
from models.errors import PersonSearchError  # noqa: E402
from models.preprocess import InputRule  # noqa: E402
from service.tests.training import config, edited, flags, run  # noqa: E402
from service.train.data import Draw, RunOrder, RunScenes, TrainingData, batches, collate  # noqa: E402
from service.train.loop import train  # noqa: E402

pytestmark = [
    pytest.mark.torch,
    pytest.mark.filterwarnings("default::DeprecationWarning"),
]

RULE = InputRule(min_size=128, max_size=192)


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    directory = tmp_path_factory.mktemp("scenes")
    write_synthetic(directory, scenes=8, persons=4, cameras=2, size=(192, 128), seed=3)
    return directory


@pytest.fixture(scope="module")
def data(scenes):
    return TrainingData([scenes], rule=RULE)


def order(scenes=10, **changes):
    run = {"seed": 1, "epochs": 3, "scenes_per_epoch": scenes, "batch_size": 4}
    return RunOrder(scenes, **run | changes)


def test_an_epoch_shows_every_scene_once_but_for_the_incomplete_batch():
    shown = [order(12).epoch(number).ravel().tolist() for number in range(3)]

    for epoch in shown:
        assert sorted(epoch) == list(range(12))
    assert shown[0] != shown[1]
    assert order(11).epoch(0).shape == (2, 4)
    assert len(np.unique(order(11).epoch(0))) == 8


def test_the_processes_slices_make_the_batches_of_one_process():
    whole = list(order())
    parts = [list(order(part=part)) for part in (slice(0, 2), slice(2, 4))]

    assert [first + second for first, second in zip(*parts, strict=True)] == whole


def test_a_run_goes_on_with_what_it_would_have_shown():
    assert list(order(start=3)) == list(order())[3:]
    assert len(order(start=3)) == 3


def test_more_scenes_in_an_epoch_than_there_are_show_them_again():
    drawn = order(3, scenes_per_epoch=9, batch_size=3).epoch(0).ravel()

    assert sorted(drawn) == [0, 0, 0, 1, 1, 1, 2, 2, 2]


def test_batches_by_shape_hold_scenes_of_like_shape_and_all_of_them():
    ratios = np.where(np.arange(40) % 2, 0.6, 1.7)
    grouped = order(40, aspect_ratios=ratios)
    plain = order(40)

    for epoch in range(3):
        batches = grouped.epoch(epoch)
        assert sorted(batches.ravel()) == list(range(40))
        assert all(len(set(ratios[batch])) == 1 for batch in batches)
    assert any(len(set(ratios[batch])) == 2 for batch in plain.epoch(0))
    assert grouped.epoch(0).tolist() != grouped.epoch(1).tolist()
    assert grouped.epoch(0).tolist() == order(40, aspect_ratios=ratios).epoch(0).tolist()
    assert len({ratios[batch[0]] for batch in grouped.epoch(0)[:6]}) == 2  # not sorted


def test_how_a_place_of_an_epoch_is_shown_depends_on_the_seed_alone(data):
    one, again, other = (RunScenes(data, seed=seed) for seed in (1, 1, 2))
    draws = [Draw(epoch, place, 5) for epoch in range(3) for place in range(3)]

    shown = [one[draw] for draw in draws]

    for scene, draw in zip(shown, draws, strict=True):
        assert torch.equal(scene.pixels, again[draw].pixels)
        assert scene.target["seed"] == again[draw].target["seed"] < 2**31
    seeds = {scene.target["seed"] for scene in shown}
    assert len(seeds | {other[draw].target["seed"] for draw in draws}) == 18


def test_flipping_mirrors_the_boxes(data):
    shown, seen = RunScenes(data, seed=1), set()
    for place in range(24):
        scene, got = data.scenes[place % 8], shown[Draw(0, place, place % 8)]
        boxes = torch.from_numpy(scene.boxes[~scene.ignore])
        scale = got.size[1] / scene.width
        mirrored = torch.stack([scene.width - boxes[:, 2], scene.width - boxes[:, 0]], 1)
        sides = got.target["boxes"][:, [0, 2]]
        plain = torch.allclose(sides, boxes[:, [0, 2]] * scale, atol=0.1)
        assert plain or torch.allclose(sides, mirrored * scale, atol=0.1)
        seen.add("plain" if plain else "flipped")

    assert seen == {"plain", "flipped"}


def test_a_batch_is_padded_with_zeros(data):
    shown = RunScenes(data, seed=1)
    small, large = shown[Draw(0, 0, 0)], shown[Draw(0, 1, 1)]
    small = dataclasses.replace(small, pixels=small.pixels[:, :64, :96])

    batch = collate([small, large])

    assert batch.images.shape == (2, *large.pixels.shape)
    assert torch.equal(batch.images[0, :, :64, :96], small.pixels)
    assert not batch.images[0, :, 64:].any() and not batch.images[0, :, :, 96:].any()
    assert batch.names == [data.scenes[0].name, data.scenes[1].name]
    assert len(batch.sizes) == len(batch.targets) == 2


def test_a_batch_has_one_scale_and_the_next_another():
    whole, part = list(order()), list(order(part=slice(2, 4)))

    scales = [{draw.scale for draw in batch} for batch in whole]
    assert all(len(one) == 1 for one in scales)
    assert len(set.union(*scales)) == len(whole)
    assert all(-1 <= scale <= 1 for one in scales for scale in one)
    assert [{draw.scale for draw in batch} for batch in part] == scales
    assert scales != [{draw.scale for draw in batch} for batch in order(seed=2)]


@pytest.mark.parametrize(("scale", "side"), [(-1, 64), (0, 128), (0.5, 181), (1, 256)])
def test_within_the_jitter_scenes_and_boxes_are_larger_or_smaller(scenes, data, scale, side):
    jittered = TrainingData([scenes], rule=RULE, scale_jitter=2)

    shown = RunScenes(jittered, seed=1)[Draw(0, 0, 0, scale)]

    plain = RunScenes(data, seed=1)[Draw(0, 0, 0, scale)]
    assert min(shown.size) == side
    assert shown.size[1] / shown.size[0] == pytest.approx(1.5, abs=0.02)
    boxes = plain.target["boxes"] * side / 128
    assert torch.allclose(shown.target["boxes"], boxes, rtol=0.02, atol=0.5)
    assert plain.size == (128, 192)


def test_the_scenes_of_a_batch_are_scaled_alike(scenes):
    jittered = TrainingData([scenes], rule=RULE, scale_jitter=1.5)
    run = order(8)

    shown = list(batches(RunScenes(jittered, seed=1), run, workers=0, pinned=False))

    sizes = [set(batch.sizes) for batch in shown]
    assert all(len(one) == 1 for one in sizes)
    assert len(set.union(*sizes)) == len(run) == 6
    again = list(batches(RunScenes(jittered, seed=1), run, workers=0, pinned=False))
    assert [batch.sizes for batch in again] == [batch.sizes for batch in shown]


def test_degraded_scenes_have_the_same_people_and_depend_on_the_seed_alone(scenes, data):
    degrading = TrainingData([scenes], rule=RULE, augment=True)
    draws = [Draw(0, place, place % 8) for place in range(12)]

    shown = [RunScenes(degrading, seed=1)[draw] for draw in draws]

    for draw, scene in zip(draws, shown, strict=True):
        again, plain = RunScenes(degrading, seed=1)[draw], RunScenes(data, seed=1)[draw]
        assert torch.equal(scene.pixels, again.pixels)
        assert not torch.equal(scene.pixels, plain.pixels)
        assert scene.target["seed"] == plain.target["seed"]
        assert torch.equal(scene.target["person_ids"], plain.target["person_ids"])
        widths = [one.target["boxes"][:, 2] - one.target["boxes"][:, 0] for one in (scene, plain)]
        assert torch.allclose(*widths, atol=0.01)
    other = RunScenes(degrading, seed=2)[draws[0]]
    assert not torch.equal(other.pixels, shown[0].pixels)


def test_people_are_the_same_where_datasets_name_and_number_them_alike(scenes, data, tmp_path):
    def named(name, ids):
        copy = shutil.copytree(scenes, tmp_path / f"{name}-{ids}")
        path = copy / "annotations.json"
        content = json.loads(path.read_text())
        content["name"] = name
        for one in content["boxes"] + content["queries"]:
            if one["person_id"] >= 0:
                one["person_id"] += ids
        path.write_text(json.dumps(content))
        return TrainingData([copy], rule=RULE).people

    assert named("synthetic-3", 0) == data.people
    assert named("synthetic-4", 0) != data.people
    assert named("synthetic-3", 5) != data.people
    assert TrainingData([scenes, scenes], rule=RULE).people == data.people * 2


def test_one_loader_serves_the_whole_run(data, monkeypatch):
    loader, started = torch.utils.data.DataLoader, []
    start = loader.__iter__
    monkeypatch.setattr(loader, "__iter__", lambda self: started.append(self) or start(self))

    shown = list(batches(RunScenes(data, seed=1), order(8), workers=0, pinned=False))

    assert len(started) == 1
    assert [len(batch.names) for batch in shown] == [4] * 6


# Through the command line: each message is one line that names the file.


def copied(scenes, tmp_path):
    return shutil.copytree(scenes, tmp_path / "scenes")


def refusal(capsys, scenes, tmp_path, **changes):
    """The one line that the command wrote."""
    code, lines = run(capsys, *flags(scenes, tmp_path / "run", **changes))

    assert code == 2
    (line,) = lines
    return line


def of_no_numbers(path):
    Image.fromarray(np.full((128, 192), np.nan, np.float32)).save(path, format="TIFF")


def truncated(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@pytest.mark.parametrize(
    ("damage", "problem", "workers"),
    [(of_no_numbers, "none of its values is a number", 0), (truncated, "ends too early", 1)],
)
def test_a_damaged_picture_is_named(scenes, tmp_path, capsys, damage, problem, workers):
    broken = copied(scenes, tmp_path)
    picture = sorted((broken / "images").iterdir())[3]
    damage(picture)

    line = refusal(capsys, broken, tmp_path, val=scenes, workers=workers)

    assert line.startswith(f"error: {picture}: ") and problem in line


def test_a_box_without_area_is_named(scenes, tmp_path, capsys):
    flat = edited(copied(scenes, tmp_path), lambda content: content["boxes"][2].update(w=0))

    line = refusal(capsys, flat, tmp_path)

    assert "annotations.json: boxes[2]: " in line and "area" in line


@pytest.mark.parametrize(
    "change", [{"image": 99}, {"image": -1}, {"person_id": -2}], ids=lambda change: str(change)
)
def test_an_id_out_of_range_is_named(scenes, tmp_path, capsys, change):
    wrong = edited(copied(scenes, tmp_path), lambda content: content["boxes"][1].update(change))

    line = refusal(capsys, wrong, tmp_path)

    assert "annotations.json: boxes[1]" in line and str(*change.values()) in line


def test_a_missing_picture_is_named(scenes, tmp_path, capsys):
    lacking = copied(scenes, tmp_path)
    picture = sorted((lacking / "images").iterdir())[0]
    picture.unlink()

    line = refusal(capsys, lacking, tmp_path)

    assert f"1 of 8 pictures are missing, first {picture}" in line


def test_scenes_in_which_nobody_is_labelled_are_refused(scenes, tmp_path, capsys):
    empty = edited(copied(scenes, tmp_path), lambda content: content.update(boxes=[], queries=[]))

    assert f"{empty}: nobody is labelled in any scene" in refusal(capsys, empty, tmp_path)


def test_fewer_scenes_than_a_batch_are_refused(scenes, tmp_path, capsys):
    line = refusal(capsys, scenes, tmp_path, batch_size=9)

    assert f"{scenes}: 8 scenes make no batch of 9" in line


def test_what_is_no_dataset_is_refused(tmp_path, capsys):
    code, lines = run(capsys, "--data", tmp_path / "nowhere", "--out", tmp_path / "run")

    assert code == 2
    assert f"error: {tmp_path / 'nowhere'}" in lines[0]


def test_one_person_and_scenes_without_people_train_and_leave_no_queries(scenes, tmp_path):
    def one_person(content):
        alone = [box for box in content["boxes"] if box["image"] == 0][:1]
        content.update(boxes=[box | {"person_id": 5} for box in alone], queries=[])

    few = edited(copied(scenes, tmp_path), one_person)
    out = tmp_path / "run"

    train(config(few, out, epochs=1, batch_size=4))

    (line,) = (out / "metrics.jsonl").read_text().splitlines()
    assert json.loads(line)["search"] is None
    card = json.loads((out / "model" / "card.json").read_text())
    assert card["training"]["people"] == 1


def test_an_error_of_the_program_itself_is_no_message_about_helpers(data, monkeypatch):
    def broken(self, index, rng, *, scale):
        raise RuntimeError("a mistake")

    monkeypatch.setattr(TrainingData, "sample", broken)

    with pytest.raises(RuntimeError, match="a mistake"):
        next(batches(RunScenes(data, seed=1), order(8), workers=0, pinned=False))


def test_a_dead_helper_process_is_explained(data, monkeypatch):
    def killed(self):
        raise RuntimeError("DataLoader worker (pid 12) is killed by signal: Killed. ")

    monkeypatch.setattr(torch.utils.data.DataLoader, "__iter__", killed)

    with pytest.raises(PersonSearchError, match=r"pid 12.*shared memory"):
        next(batches(RunScenes(data, seed=1), order(8), workers=0, pinned=False))
