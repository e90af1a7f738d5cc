import pytest

from models.bench import folder_pictures, sample_pictures, summary
from models.errors import PersonSearchError


def test_a_summary_has_the_median_in_milliseconds():
    assert summary({"decode": [0.001, 0.002, 0.009]})["decode"]["median_ms"] == 2


def test_the_first_pictures_of_a_folder_are_measured(tmp_path):
    first, second = sample_pictures(2, width=64, height=64)
    (tmp_path / "a.jpg").write_bytes(first)
    (tmp_path / "b without a suffix").write_bytes(second)
    (tmp_path / "annotations.jpg").write_text("{}")
    (tmp_path / "folder.jpg").mkdir()

    assert folder_pictures(tmp_path, 9) == [first, second]
    assert folder_pictures(tmp_path, 1) == [first]


def test_a_folder_without_pictures_is_told(tmp_path):
    with pytest.raises(PersonSearchError, match="no picture in"):
        folder_pictures(tmp_path, 4)
