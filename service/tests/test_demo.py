import json

import numpy as np
import pytest
from PIL import Image

from indexer.tests.servers import free_port
from models.errors import DatasetError
from service.bench import __main__ as bench
from service.demo import page_pictures
from service.demo.__main__ import main, read_scenes
from service.demo.local import Client, LocalError, running_service
from service.tests.stub import picture

STUB = ("-m", "service.tests.stub")
RED, BLUE = ("red", (40, 40, 100, 200)), ("blue", (200, 60, 250, 180))


@pytest.fixture(scope="module")
def service():
    with running_service(STUB) as base_url:
        yield base_url


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "scenes"
    folder.mkdir()
    (folder / "a.jpg").write_bytes(picture(RED, BLUE))
    (folder / "b.jpg").write_bytes(picture(BLUE))
    (folder / "c.png").write_bytes(picture(RED, size=(640, 480), file_format="PNG"))
    (folder / "broken.jpg").write_bytes(b"no picture")
    return folder


def run(service, folder, out, capsys):
    code = main(["--scenes", str(folder), "--out", str(out), "--base-url", service])
    return code, capsys.readouterr()


def test_the_demo_finds_the_clearest_person_of_a_folder(service, folder, tmp_path, capsys):
    code, output = run(service, folder, tmp_path / "out", capsys)

    assert code == 0, output.err
    first = next(line for line in output.out.splitlines() if line.startswith("1 "))
    assert "c.png" in first
    assert "left out broken.jpg" in output.out
    assert "python -m indexer add" in output.out
    for name in ("result.jpg", "result.png"):
        assert str(tmp_path / "out" / name) in output.out
        assert np.asarray(Image.open(tmp_path / "out" / name)).std() > 10


def test_the_demo_uses_labels_where_they_are(service, folder, tmp_path, capsys):
    (folder / "d.jpg").write_bytes(picture(BLUE, size=(400, 300)))
    places = [("a.jpg", RED, 7), ("c.png", RED, 7), ("b.jpg", BLUE, 3), ("d.jpg", BLUE, 3),
              ("a.jpg", BLUE, 3)]  # fmt: skip
    names = sorted({name for name, _, _ in places})
    boxes = [
        {"image": names.index(name), "x": x1, "y": y1, "w": x2 - x1, "h": y2 - y1, "person_id": id}
        for name, (_, (x1, y1, x2, y2)), id in places
    ]
    described = {"images": [{"file": name} for name in names], "boxes": boxes}
    (folder / "annotations.json").write_text(json.dumps(described))
    code, output = run(service, folder, tmp_path / "out", capsys)

    assert code == 0, output.err
    lines = [line for line in output.out.splitlines() if line[:2] in ("1 ", "2 ", "3 ")]
    assert [line.split()[-1] for line in lines] == ["yes", "yes", "no"]


def test_a_folder_without_enough_pictures_is_refused_in_one_line(tmp_path, capsys):
    for name in ("none", "."):
        assert main(["--scenes", str(tmp_path / name)]) == 2
        error = capsys.readouterr().err
        assert error.startswith("error: ")
        assert len(error.splitlines()) == 1
    (tmp_path / "annotations.json").write_text("{}")
    for name in ("a.png", "b.png"):
        (tmp_path / name).write_bytes(b"")
    with pytest.raises(DatasetError, match="annotations"):
        read_scenes(tmp_path)


def test_pictures_without_people_are_said_to_be_so(service, tmp_path, capsys):
    for number in range(2):
        content = picture(file_format="PNG", seed=number)
        (tmp_path / f"{number}.png").write_bytes(content)
    code, output = run(service, tmp_path, tmp_path / "out", capsys)

    assert code == 2
    assert "nobody was found" in output.err


@pytest.mark.parametrize("command", [main, bench.main, page_pictures.main])
def test_without_a_service_that_is_said_in_one_line(command, capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)  # where pictures would go
    nowhere = f"http://127.0.0.1:{free_port()}"

    assert command(["--base-url", nowhere]) == 2

    assert capsys.readouterr().err == (
        f"error: no service answers at {nowhere}: Connection refused\n"
    )


def test_a_service_that_takes_no_scene_is_said_to_be_so(service, tmp_path, capsys):
    for name in ("a.jpg", "b.jpg"):
        (tmp_path / name).write_bytes(b"no picture")
    code, output = run(service, tmp_path, tmp_path / "out", capsys)

    assert code == 2
    assert output.err == "error: the service took none of 2 scenes\n"


def test_a_service_that_cannot_start_says_why():
    service = running_service(("-c", "raise SystemExit('error: no model')"))

    with pytest.raises(LocalError, match="did not start: error: no model"), service:
        pass


def test_the_benchmark_prints_a_table_and_one_line_of_json(service, capsys):
    assert bench.main(["--base-url", service, "--requests", "2"]) == 0

    lines = capsys.readouterr().out.splitlines()
    result = json.loads(lines[-1])
    assert result["model"] == "stub"
    for name in ("POST /detect", "search, crop", "search, scene and box", "GET /livez"):
        assert result[name]["n"] == 2
        assert 0 < result[name]["p50_ms"] <= result[name]["p95_ms"]


def test_a_client_says_what_the_service_answered(service):
    client = Client(service)

    with pytest.raises(LocalError, match="There is no such path"):
        client.get("/nothing")
    client.close()
    with pytest.raises(LocalError, match="expected http"):
        Client("ftp://example")
