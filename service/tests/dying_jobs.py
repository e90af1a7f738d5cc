"""A service that dies while it deals with a job.

python -m service.tests.dying_jobs DATA STEP [IDEMPOTENCY_KEY]

It posts PICTURES pictures with wait=false, or only goes on with what is there when STEP begins
with "resume-", and dies at the step. What was acknowledged is printed. At "beside" it dies of
another job, while the pictures are described.
"""

import os
import sys
import time
from pathlib import Path

from starlette.testclient import TestClient

from indexer.gallery.gallery import Gallery
from indexer.rows.jobs import JobStore
from service.app import create_app
from service.kinds import job_kinds
from service.running.spool import Spool
from service.settings import Settings
from service.tests.stub import StubDetector, picture

DEATH = 41
PICTURES = 6
WARM_UP = 2
RED = ("red", (40, 40, 80, 160))
# Which call the process does not survive: the so-manyth that gives something, or none to begin.
STEPS = {
    "spooled": (Spool, "store", 1),
    "accepted": (JobStore, "submit", 1),
    "claimed": (JobStore, "claim", 1),
    "detecting": (StubDetector, "detect", 2 + 4),  # two are warm-up
    "stored": (Gallery, "add", 4),
    "noted": (JobStore, "progress", 1 + 4),  # one tells the total
    "finished": (JobStore, "finish", 1),
}


def pictures():
    return [picture(RED, file_format="PNG", seed=number) for number in range(PICTURES)]


def upload(client, key=None):
    return client.post(
        "/gallery/images",
        params={"wait": False},
        files=[("image", content) for content in pictures()],
        headers={} if key is None else {"Idempotency-Key": key},
    )


def app(directory, detector, **besides):
    """With further kinds of job, or other ones."""
    return create_app(
        Settings(data_dir=directory), detector, lambda parts: {**job_kinds(parts), **besides}
    )


def die_at(step):
    owner, name, calls = STEPS[step]
    call, counted = getattr(owner, name), []

    def dying(*arguments, **options):
        result = call(*arguments, **options)
        if name != "claim" or result is not None:
            counted.append(result)
        if len(counted) == calls:
            os._exit(DEATH)
        return result

    setattr(owner, name, dying)


def die_beside(detector):
    while not detector.go.is_set() and detector.asked.count("detect") <= WARM_UP:
        time.sleep(0.01)
    os._exit(DEATH)


def main(directory, step, key=None):
    besides = {}
    detector = StubDetector()
    if step == "poison":
        besides = {"ingest": lambda context: os._exit(DEATH)}
    elif step == "beside":
        besides = {"poison": lambda context: die_beside(detector)}
    else:
        die_at(step.removeprefix("resume-"))
    with TestClient(app(directory, detector, **besides), base_url="http://localhost") as client:
        if not client.get("/jobs").json()["items"]:
            if step == "beside":
                detector.go.clear()
            sys.stdout.write(upload(client, key).json()["job_id"] + "\n")
            sys.stdout.flush()
            if step == "beside":
                client.app.state.parts.jobs.submit("poison", {}, key=None)
        time.sleep(30)


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])
