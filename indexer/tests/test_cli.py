import hashlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

import indexer
from indexer import __main__ as cli
from indexer import arguments
from indexer.gallery.gallery import Gallery
from indexer.records import SceneFilter
from indexer.tests.scenery import OtherDetector, StubDetector, open_gallery, picture


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    for number in range(3):
        (folder / f"{number}.png").write_bytes(picture(number))
    return folder


@pytest.fixture
def run(monkeypatch, capsys, tmp_path):
    """Run a command on tmp_path/gallery with the stub detector: exit code, stdout, stderr."""
    asked = []

    def detector(model, *, threads):
        asked.append((model, threads))
        return StubDetector()

    def command(name, *arguments):
        code = cli.main([name, "--gallery", str(tmp_path / "gallery"), *map(str, arguments)])
        return code, *capsys.readouterr()

    monkeypatch.setattr(cli, "OnnxDetector", detector)
    command.detectors = asked
    return command


def test_add_stores_a_folder_and_says_how_many(run, photos, tmp_path):
    code, out, _ = run("add", photos, "--camera", "cam", "--tag", "a", "--tag", "b")

    assert (code, out.splitlines()) == (
        0,
        [
            "3 added with 6 people, 0 already there, 0 failed",
            "left out: 0 not pictures, 0 excluded, 0 links to folders",
        ],
    )
    with Gallery.reopen(tmp_path / "gallery") as gallery:
        (scene,) = gallery.scenes.page(SceneFilter(external_id="cam/1.png")).scenes
        assert (scene.camera_id, scene.tags) == ("cam", ("a", "b"))


def test_add_again_skips_what_is_there(run, photos):
    run("add", photos)
    (photos / "3.png").write_bytes(picture(3))

    code, out, _ = run("add", photos)
    assert (code, out.splitlines()[0]) == (0, "1 added with 2 people, 3 already there, 0 failed")


def test_without_a_directory_the_gallery_is_the_services_own(run, photos, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)

    assert cli.main(["add", str(photos)]) == 0

    with Gallery.reopen(tmp_path / "data") as gallery:
        assert gallery.scenes.count() == 3


def test_add_lists_what_failed_at_the_end_and_exits_with_1(run, photos, tmp_path):
    (photos / "0.png").write_bytes(b"nonsense")

    code, out, err = run("add", photos, tmp_path / "nowhere.png")

    assert (code, out.splitlines()[0]) == (1, "2 added with 4 people, 0 already there, 2 failed")
    failed = [line for line in err.splitlines() if line.startswith("failed: ")]
    assert str(photos / "0.png") in failed[0]
    assert str(tmp_path / "nowhere.png") in failed[1]


def test_search_finds_the_boxed_person_in_its_own_scene(run, photos):
    run("add", photos)

    code, out, _ = run("search", photos / "1.png", "--box", 32, 0, 64, 48, "-k", 2, "--json")

    hits = json.loads(out)
    assert code == 0
    assert [hit["rank"] for hit in hits] == [1, 2]
    assert hits[0]["external_id"] == "1.png"
    assert hits[0]["box"] == {"x1": 32, "y1": 0, "x2": 64, "y2": 48}
    assert hits[0]["similarity"] == pytest.approx(1, abs=1e-6)
    assert hits[0]["score"] == pytest.approx(0.6, abs=1e-6)


def test_search_prints_a_line_per_hit(run, photos):
    run("add", photos, "--camera", "cam")

    code, out, _ = run("search", photos / "1.png", "--camera", "cam", "-k", 4)

    lines = out.splitlines()
    assert code == 0
    assert len(lines) == 4
    assert lines[0].split()[0] == "1"
    assert lines[0].endswith("cam")
    assert run("search", photos / "1.png", "--camera", "other")[:2] == (0, "")


def test_remove_takes_ids_and_external_ids(run, photos, tmp_path):
    run("add", photos)
    with Gallery.reopen(tmp_path / "gallery") as gallery:
        id = gallery.scenes.page().scenes[0].id

    code, out, _ = run("remove", id, "2.png")

    assert (code, out) == (0, f"removed {id}\nremoved 2.png\n")
    assert "scenes: 1\ndetections: 2\n" in run("stats")[1]


def test_rebuild_says_what_it_read(run, photos):
    run("add", photos)

    assert run("rebuild")[:2] == (0, "rebuilt the index: 6 people in 3 scenes\n")


def test_a_snapshot_is_made_listed_and_restored(run, photos, tmp_path):
    run("add", photos)
    code, out, _ = run("snapshot")
    path = out.split(": ")[0]
    assert (code, "6 people in 3 scenes" in out) == (0, True)
    run("remove", "1.png")
    (photos / "3.png").write_bytes(picture(3))
    run("add", photos / "3.png")

    assert run("snapshots")[1].startswith(path)
    assert run("restore", Path(path).name)[0] == 0

    with Gallery.reopen(tmp_path / "gallery") as gallery:
        assert {scene.external_id for scene in gallery.scenes.page().scenes} == {
            "0.png",
            "1.png",
            "2.png",
        }
        assert gallery.trail.entries(limit=1)[0].key == "(command line)"


def test_snapshots_may_lie_elsewhere(run, photos, tmp_path):
    run("add", photos)
    run("snapshot", "--snapshots", tmp_path / "s")

    (path,) = (tmp_path / "s").glob("snap_*")
    assert run("snapshots")[1] == ""
    assert str(path) in run("snapshots", "--snapshots", tmp_path / "s")[1]
    assert run("restore", path)[:2] == (0, f"restored {path.name}: 6 people in 3 scenes\n")


def test_a_snapshot_names_the_originals_that_are_lost(run, photos, tmp_path):
    run("add", photos)
    lost = min((tmp_path / "gallery" / "originals").iterdir())
    lost.unlink()

    code, _, err = run("snapshot")

    assert code == 1
    assert f"failed: the original {lost.name}" in err


def test_a_damaged_snapshot_is_one_line_and_the_gallery_stays(run, photos):
    run("add", photos)
    path = Path(run("snapshot")[1].split(": ")[0])
    (path / "gallery.sqlite3").write_bytes(b"")

    code, _, err = run("restore", path)

    assert code == 2
    assert err == f"error: {path / 'gallery.sqlite3'} is not what was written\n"
    assert "scenes: 3" in run("stats")[1]


def test_compact_says_what_it_freed(run, photos):
    run("add", photos)

    assert run("compact")[:2] == (0, "compacted: the database is 0 bytes smaller\n")


def test_the_model_asked_for_is_remembered_and_used_again(run, photos, tmp_path):
    run("add", photos, "--model", tmp_path / "mine", "--threads", 2)
    run("search", photos / "1.png")

    assert run.detectors == [(tmp_path / "mine", 2), (tmp_path / "mine", 0)]


def test_the_default_model_is_not_remembered_by_its_place(run, photos):
    run("add", photos)
    run("search", photos / "1.png")

    assert run.detectors == [(cli.DEFAULT_MODEL, 0)] * 2


@pytest.mark.parametrize(
    ("command", "complaint"),
    [
        (["search", "x.png"], "there is no gallery in"),
        (["stats"], "there is no gallery in"),
        (["remove", "img_1"], "there is no gallery in"),
        (["rebuild"], "there is no gallery in"),
    ],
)
def test_a_gallery_that_is_not_there_is_one_line_and_exit_code_2(run, tmp_path, command, complaint):
    code, out, err = run(*command)

    assert (code, out) == (2, "")
    assert err.startswith(f"error: {complaint}")
    assert err.count("\n") == 1
    assert not (tmp_path / "gallery").exists()


def test_an_unknown_scene_is_one_line_and_exit_code_2(run, photos):
    run("add", photos)

    assert run("remove", "img_x") == (2, "", "error: there is no scene img_x\n")


def test_a_gallery_in_use_is_one_line_and_exit_code_2(run, tmp_path, photos):
    with open_gallery(tmp_path / "gallery"):
        for command in (["add", photos], ["search", photos / "1.png"], ["stats"]):
            code, _, err = run(*command)

            assert code == 2
            assert err.startswith(f"error: the gallery {tmp_path / 'gallery'} is open elsewhere")


@pytest.mark.slow
def test_the_module_runs_as_a_program(tmp_path):
    root = Path(indexer.__file__).parent.parent
    command = [sys.executable, "-m", "indexer", "stats", "--gallery", str(tmp_path / "none")]

    ended = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)

    assert ended.returncode == 2
    assert ended.stdout == ""
    assert ended.stderr == f"error: there is no gallery in {tmp_path / 'none'}\n"


@pytest.fixture
def two_models(monkeypatch):
    """Model directories "old" and "new" stand for two stub detectors."""
    models = {"old": StubDetector, "new": OtherDetector}
    loaded = []

    def detector(model, *, threads):
        loaded.append(model.name)
        return models[model.name]()

    monkeypatch.setattr(cli, "OnnxDetector", detector)
    for module in (cli, arguments):
        monkeypatch.setattr(module, "load_card", lambda model: models[model.name].card)
    return loaded


def test_reindex_changes_the_model_and_rollback_takes_it_back(run, two_models, photos, tmp_path):
    run("add", photos, "--model", tmp_path / "old")
    found = run("search", photos / "1.png", "--json")

    code, out, _ = run("reindex", "--model", tmp_path / "new")
    assert (code, out.split(" (")[0]) == (0, "other answers now")
    assert out.endswith("6 people in 3 scenes; --rollback goes back\n")
    assert run("search", photos / "1.png", "--json")[0] == 0
    assert two_models[-2:] == ["new", "new"]

    code, out, _ = run("reindex", "--rollback")
    assert (code, out.split(" (")[0]) == (0, "stub answers now")
    assert run("search", photos / "1.png", "--json") == found


def test_without_a_model_before_there_is_no_rollback(run, photos):
    run("add", photos)

    code, _, err = run("reindex", "--rollback")

    assert (code, err) == (2, "error: there is no model before to go back to\n")


def test_reindex_names_the_scenes_that_it_cannot_read(run, two_models, photos, tmp_path):
    run("add", photos, "--model", tmp_path / "old")
    originals = sorted((tmp_path / "gallery" / "originals").iterdir())
    originals[0].write_bytes(b"torn")

    code, _, err = run("reindex", "--model", tmp_path / "new")

    assert code == 2
    assert err.count("failed: img_") == 1
    assert "1 failed; the model was not changed" in err
    assert "model_name: stub" in run("stats")[1]


def test_quarantine_lists_adds_and_deletes_what_the_database_does_not_know(run, photos, tmp_path):
    run("add", photos)
    names = [hashlib.sha256(picture(seed)).hexdigest() for seed in (7, 8)]
    for name, seed in zip(names, (7, 8), strict=True):
        (tmp_path / "gallery" / "originals" / name).write_bytes(picture(seed))

    code, out, _ = run("quarantine")
    assert (code, out.splitlines()[-1]) == (0, "2 in quarantine")
    assert {line.split()[0] for line in out.splitlines()[:-1]} == set(names)

    code, out, _ = run("quarantine", "--take-back", names[0], "--camera", "gate")
    assert (code, out.splitlines()[-1]) == (0, "1 added, 0 already there, 0 failed")
    with Gallery.reopen(tmp_path / "gallery") as gallery:
        assert gallery.scenes.find(names[0]).camera_id == "gate"
    assert run("quarantine", "--delete", "--all")[:2] == (0, "1 deleted\n")
    assert run("quarantine")[:2] == (0, "0 in quarantine\n")


@pytest.mark.parametrize("arguments", [["--all"], ["--delete"], ["--take-back"], ["0" * 64]])
def test_quarantine_wants_to_know_what_is_to_become_of_which(run, photos, arguments):
    run("add", photos)

    code, _, err = run("quarantine", *arguments)

    assert code == 2
    assert "expected --take-back or --delete" in err


def test_quarantine_names_what_is_not_there(run, photos):
    run("add", photos)

    assert run("quarantine", "--delete", "0" * 64)[0] == 2
    assert "there is no" in run("quarantine", "--take-back", "0" * 64)[2]
