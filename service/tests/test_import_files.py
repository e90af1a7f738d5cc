"""Files of imports are read from below one directory and from nowhere else."""

import os
import threading
import time

import pytest

from models.errors import ImageTooLargeError
from service.http.errors import RequestError
from service.images.import_files import read_inside


@pytest.fixture
def root(tmp_path):
    root = tmp_path / "import"
    (root / "gate").mkdir(parents=True)
    (root / "gate" / "a.jpg").write_bytes(b"picture")
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "secret.jpg").write_bytes(b"secret")
    return root


def refused(root, name):
    with pytest.raises(RequestError) as raised:
        read_inside(root, name, max_bytes=100)
    assert "secret" not in str(raised.value)
    return raised.value.code


def test_a_file_below_the_directory_is_read(root):
    (root / "link.jpg").symlink_to("gate/a.jpg")
    (root / "other").symlink_to(root / "gate")

    for name in ("gate/a.jpg", "./gate//a.jpg", "link.jpg", "other/a.jpg"):
        assert read_inside(root, name, max_bytes=7) == b"picture"
    with pytest.raises(ImageTooLargeError):
        read_inside(root, "gate/a.jpg", max_bytes=6)


def test_the_directory_itself_may_be_a_link(root, tmp_path):
    (tmp_path / "named").symlink_to(root)

    assert read_inside(tmp_path / "named", "gate/a.jpg", max_bytes=100) == b"picture"


@pytest.mark.parametrize(
    "name",
    [
        "../outside/secret.jpg",
        "gate/../../outside/secret.jpg",
        "gate/../gate/a.jpg",
        "/etc/passwd",
        "//etc/passwd",
        "..",
        ".",
        "",
        "gate/..",
        "a\0b",
        "../nowhere.jpg",
    ],
)
def test_a_path_that_leads_out_is_refused(root, name):
    assert refused(root, name) == "path_not_allowed"


@pytest.mark.parametrize(
    "target", ["../outside/secret.jpg", "/etc/hostname", "/proc/self/environ", "/dev/zero", "/none"]
)
def test_a_link_that_leads_out_is_refused_whether_or_not_it_ends_somewhere(root, target):
    (root / "link.jpg").symlink_to(target)
    (root / "links").symlink_to(os.path.dirname(target) or "/")  # noqa: PTH120

    assert refused(root, "link.jpg") == "path_not_allowed"
    assert refused(root, f"links/{os.path.basename(target)}") == "path_not_allowed"  # noqa: PTH119


def test_what_is_no_regular_file_is_refused_and_nobody_waits_for_it(root, tmp_path):
    os.mkfifo(root / "pipe.jpg")
    (root / "loop.jpg").symlink_to("loop.jpg")
    (root / "pipes").symlink_to("pipe.jpg")

    for name in ("pipe.jpg", "pipes", "gate", "loop.jpg", "none.jpg", "gate/a.jpg/b", "x" * 300):
        assert refused(root, name) == "file_unreadable", name


@pytest.mark.parametrize("moment", ["realpath", "stat"])
@pytest.mark.parametrize("step", ["gate", "gate/a.jpg"])
def test_a_link_put_in_after_a_check_leads_nowhere(root, tmp_path, monkeypatch, moment, step):
    (tmp_path / "outside" / "a.jpg").write_bytes(b"secret")
    outside = {"gate": tmp_path / "outside", "gate/a.jpg": tmp_path / "outside" / "a.jpg"}
    owner = os.path if moment == "realpath" else os
    check = getattr(owner, moment)

    def check_then_swap(path, *arguments, **options):
        found = check(path, *arguments, **options)
        if str(path).endswith("a.jpg"):
            monkeypatch.undo()  # only once
            (root / step).rename(tmp_path / "aside")
            (root / step).symlink_to(outside[step])
        return found

    monkeypatch.setattr(owner, moment, check_then_swap)
    try:
        content = read_inside(root, "gate/a.jpg", max_bytes=100)
    except RequestError as error:
        assert error.code == "file_unreadable"
    else:
        assert (content, moment, step) == (b"picture", "stat", "gate")  # opened before the swap
    assert (root / step).is_symlink()


def test_names_that_move_all_the_time_give_what_is_inside_or_nothing(root, tmp_path):
    inside, outside = root / "gate", tmp_path / "outside"
    (outside / "a.jpg").write_bytes(b"secret")
    stop = threading.Event()

    def swap():
        while not stop.is_set():
            inside.rename(root / "aside")
            inside.symlink_to(outside)
            inside.unlink()
            (root / "aside").rename(inside)

    thread = threading.Thread(target=swap)
    thread.start()
    read = set()
    try:
        ends = time.monotonic() + 60
        tries = 0
        while tries < 3000 or (b"picture" not in read and time.monotonic() < ends):
            tries += 1
            try:
                read.add(read_inside(root, "gate/a.jpg", max_bytes=100))
            except RequestError as error:
                read.add(error.code)
    finally:
        stop.set()
        thread.join()

    assert read <= {b"picture", "path_not_allowed", "file_unreadable"}
    assert b"picture" in read
