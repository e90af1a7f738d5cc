import pytest

from models.tests.machine import missing


def test_what_is_missing_skips_a_test_and_fails_it_where_ci_is_set(monkeypatch):
    monkeypatch.delenv("CI", raising=False)
    with pytest.raises(pytest.skip.Exception, match="no browser"):
        missing("no browser")

    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match="no browser; CI is set"):
        missing("no browser")
