"""The pages that explain name what there is."""

import re
from pathlib import Path

import pytest
from fastapi import FastAPI

from indexer.__main__ import COMMANDS
from service.app import create_app
from service.settings import Settings
from service.train.config import TrainConfig
from service.train.presets import PRESETS

ROOT = Path(__file__).parent.parent.parent


PAGES = ("README.md", "service/README.md", "service/PROMISES.md", "indexer/README.md")


@pytest.fixture(scope="module")
def explained():
    return "\n".join((ROOT / page).read_text(encoding="utf-8") for page in PAGES)


@pytest.mark.parametrize("name", sorted(Settings.model_fields))
def test_every_setting_is_explained(explained, name):
    assert f"PERSON_SEARCH_{name.upper()}" in explained


@pytest.mark.parametrize("path", sorted(create_app(Settings()).openapi()["paths"]))
def test_every_route_is_explained(explained, path):
    assert path in explained


def test_the_openapi_document_names_every_route_of_the_app():
    app = create_app(Settings())

    told, served = (
        {(path, method) for path, operations in document["paths"].items() for method in operations}
        for document in (app.openapi(), FastAPI.openapi(app))
    )

    assert len(told) > 40
    assert told == served


@pytest.mark.parametrize(
    "command",
    [
        "python -m service",
        "python -m service.bench",
        "python -m service.bench.page",
        "python -m service.demo.page_pictures",
        "python -m service.restore",
        "python -m indexer",
        "make demo",
    ],
)
def test_every_command_is_explained(explained, command):
    assert command in explained


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_every_command_of_the_indexer_is_explained(explained, command):
    lines = [line for line in explained.splitlines() if "python -m indexer" in line]
    assert any(command in line for line in lines)


@pytest.fixture(scope="module")
def training_readme():
    return (ROOT / "service" / "train" / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", sorted(TrainConfig.model_fields))
def test_every_flag_of_training_is_in_its_readme(training_readme, name):
    assert f"`--{name.replace('_', '-')}`" in training_readme


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_every_preset_of_training_is_in_its_readme(training_readme, name):
    assert f"| `{name}` |" in training_readme


def test_the_training_readme_names_no_flag_that_is_not_there(training_readme):
    commands = re.findall(r"(?:^|\s)python -m service\.train .*(?:\n +--.*)*", training_readme)
    named = {flag for command in commands for flag in re.findall(r"--([a-z-]+)", command)}

    assert named
    assert {flag.replace("-", "_") for flag in named} <= set(TrainConfig.model_fields)


def test_every_test_that_a_promise_names_is_there():
    promises = (ROOT / "service" / "PROMISES.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`[a-z_/]*?(test_[a-z_]+\.py)`", promises))
    layers = ("models", "indexer", "service", "api_tests")
    there = {file.name for layer in layers for file in (ROOT / layer).rglob("test_*.py")}

    assert len(named) > 20
    assert named <= there


def modules():
    """Folder and name of each module that is not a test."""
    for layer in ("models", "indexer", "service"):
        for file in sorted((ROOT / layer).rglob("*.py")):
            place = file.relative_to(ROOT)
            if not {"tests", "migrations"} & set(place.parts) and file.stem != "__init__":
                yield place.parent.as_posix(), file.stem


def test_the_map_of_the_house_has_a_line_for_each_file_and_no_other():
    told = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8").split("## What is where")[1]
    mapped, folder = [], ""
    for line in told.splitlines():
        if heading := re.match(r"\*\*`(.+)/`\*\*: ", line):
            folder = heading[1]
        elif entry := re.match(r"    (\w+)  ", line):
            mapped.append((folder, entry[1]))

    assert sorted(mapped) == sorted(modules())
