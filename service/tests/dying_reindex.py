"""A service that dies while the model of its gallery is changed.

python -m service.tests.dying_reindex DATA STEP

It adds PICTURES pictures, asks for the other model, and dies at the step.
"""

import os
import sys
import time
from pathlib import Path

from starlette.testclient import TestClient

from indexer.gallery.generations import Generations
from indexer.rows import generations
from indexer.rows.jobs import JobStore
from service.app import create_app
from service.settings import Settings
from service.tests.stub import OtherStub, StubDetector, picture

DEATH = 41
PICTURES = 8
RED = ("red", (40, 40, 80, 160))
# Which call the process does not survive: the so-manyth, before it is made or after.
STEPS = {
    "begun": (Generations, "begin", 1, "after"),
    "at half": (Generations, "add_people", PICTURES // 2, "before"),
    "one stored": (Generations, "add_people", PICTURES // 2, "after"),
    "all stored": (Generations, "activate", 1, "before"),
    "in the swap": (generations, "activate", 1, "after"),
    "swapped": (Generations, "activate", 1, "after"),
    "finished": (JobStore, "finish", 1, "after"),
}


def app(directory, other):
    return create_app(Settings(data_dir=directory), StubDetector(), other_detectors=[other])


def die_at(step):
    owner, name, calls, when = STEPS[step]
    call, counted = getattr(owner, name), []

    def dying(*arguments, **options):
        counted.append(name)
        fatal = len(counted) == calls
        if fatal and when == "before":
            os._exit(DEATH)
        result = call(*arguments, **options)
        if fatal:
            os._exit(DEATH)
        return result

    setattr(owner, name, dying)


def main(directory, step):
    with TestClient(app(directory, OtherStub()), base_url="http://localhost") as client:
        for seed in range(PICTURES):
            content = picture(RED, file_format="PNG", seed=seed)
            assert client.post("/gallery/images", files={"image": content}).status_code == 201
        die_at(step)
        assert client.post("/models/other/reindex").status_code == 202
        time.sleep(30)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
