"""A stop ends in time, whatever runs."""

import signal
import threading
import time

import pytest

from service.__main__ import LAST_S
from service.tests.serving import Client, scene, served
from service.tests.stub import StubDetector


class EndlessStub(StubDetector):
    """Never done with a picture; a picture of the warm-up is larger."""

    def detect(self, images):
        if images[0].shape[0] < 100:
            time.sleep(3600)
        return super().detect(images)


@pytest.mark.slow
def test_a_stop_ends_in_time_though_a_picture_takes_for_ever(tmp_path):
    with served(tmp_path / "data", detector=EndlessStub, drain_s=1) as service:
        answers = []

        def search():
            with Client(service.port) as client:
                answers.append(client.post_form("/detect", scene(1))[0])

        asking = threading.Thread(target=search, daemon=True)
        asking.start()
        time.sleep(1)
        assert not answers
        began = time.monotonic()
        service.signal(signal.SIGTERM)

        assert service.wait(60) == 0
        assert time.monotonic() - began < 1 + LAST_S + 10
    asking.join(10)
    assert answers == [503]
