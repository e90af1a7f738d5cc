"""README.md names what there is."""

from pathlib import Path

import pytest

from service.app import create_app
from service.settings import Settings

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture(scope="module")
def readme():
    return (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", sorted(Settings.model_fields))
def test_every_setting_is_in_the_readme(readme, name):
    assert f"PERSON_SEARCH_{name.upper()}" in readme


@pytest.mark.parametrize("path", sorted(create_app(Settings()).openapi()["paths"]))
def test_every_route_is_in_the_readme(readme, path):
    assert path in readme


@pytest.mark.parametrize(
    "command", ["python -m service", "python -m service.bench", "python -m indexer", "make demo"]
)
def test_every_command_is_in_the_readme(readme, command):
    assert command in readme
