"""A service that dies while it adds a picture for a request with an Idempotency-Key.

python -m service.tests.dying_add DATA STEP
"""

import os
import sys
from pathlib import Path

from starlette.testclient import TestClient

from service.app import create_app
from service.settings import Settings
from service.tests.stub import StubDetector, picture

DEATH = 41


def served(directory):
    app = create_app(Settings(data_dir=directory), StubDetector())
    return TestClient(app, base_url="http://localhost")


def post(client):
    content = picture(("red", (40, 40, 80, 160)), file_format="PNG")
    headers = {"Idempotency-Key": "once"}
    return client.post("/gallery/images", files={"image": content}, headers=headers)


def main(directory, fatal):
    def on_step(step):
        if step == fatal:
            os._exit(DEATH)

    with served(directory) as client:
        client.app.state.parts.gallery._writer.on_step = on_step
        post(client)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
