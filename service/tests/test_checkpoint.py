"""Checkpoints are whole, and nothing in them is run."""

import pytest

torch = pytest.importorskip("torch")

from models.errors import ModelFileError  # noqa: E402
from service.train.checkpoint import load_checkpoint, save_checkpoint  # noqa: E402

pytestmark = pytest.mark.torch


def test_a_checkpoint_comes_back_as_it_went(tmp_path):
    path = tmp_path / "checkpoint.pt"

    save_checkpoint(path, {"network": {"a": torch.arange(3)}, "steps": 7})

    assert load_checkpoint(path)["steps"] == 7
    assert list(tmp_path.iterdir()) == [path]


def test_a_failed_save_leaves_the_previous_checkpoint(tmp_path):
    path = tmp_path / "checkpoint.pt"
    save_checkpoint(path, {"network": {}, "steps": 1})

    with pytest.raises(Exception, match="pickle"):
        save_checkpoint(path, {"network": {}, "steps": lambda: 2})

    assert load_checkpoint(path)["steps"] == 1


def test_a_truncated_checkpoint_is_refused(tmp_path):
    path = tmp_path / "checkpoint.pt"
    save_checkpoint(path, {"network": {"a": torch.zeros(1000)}})
    path.write_bytes(path.read_bytes()[:500])

    with pytest.raises(ModelFileError, match=r"checkpoint\.pt"):
        load_checkpoint(path)


def test_code_in_a_checkpoint_is_not_run(tmp_path):
    path = tmp_path / "checkpoint.pt"
    torch.save({"network": Dangerous(tmp_path / "ran")}, path)

    with pytest.raises(ModelFileError):
        load_checkpoint(path)

    assert not (tmp_path / "ran").exists()


class Dangerous:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))
