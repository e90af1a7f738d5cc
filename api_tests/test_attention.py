"""Promises about what an NAE+ looks at: only it tells, and in pixels of the crop."""

import dataclasses
import io
from contextlib import closing

import numpy as np
import pytest
from PIL import Image

from service.demo.local import Client
from service.tests.stub import StubDetector, picture

PERSON = ("red", (24, 10, 64, 112))


class AttentiveStub(StubDetector):
    """Looks at the upper half of a box."""

    def __init__(self, seconds=0.0):
        super().__init__(seconds)
        self.card = dataclasses.replace(self.card, head="nae_plus")

    def attention(self, image, boxes):
        shown = np.zeros((len(boxes), 14, 14), np.float32)
        shown[:, :7] = 0.9
        return shown


def add(client, content):
    answer = client.post("/gallery/images", files={"image": content})
    return answer.json()["detections"][0]["id"]


def content():
    return picture(("red", (20, 10, 61, 110)), size=(160, 120), file_format="PNG")


def test_a_model_without_that_head_says_so(client):
    answer = client.get(f"/gallery/detections/{add(client, content())}/attention")

    assert (answer.status_code, answer.json()["code"]) == (409, "no_attention")
    assert "nae" in answer.json()["detail"]


def test_a_detection_that_is_not_there_is_not_found(client):
    answer = client.get("/gallery/detections/det_00000000000000000000000000/attention")

    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")


@pytest.mark.parametrize("detector", [AttentiveStub()])
def test_attention_is_as_large_as_the_crop_and_opaque_where_the_model_looks(client, detector):
    id = add(client, content())
    answer = client.get(f"/gallery/detections/{id}/attention")

    assert answer.headers["content-type"] == "image/png"
    overlay = Image.open(io.BytesIO(answer.content))
    crop = Image.open(io.BytesIO(client.get(f"/gallery/detections/{id}/crop").content))
    assert (overlay.size, overlay.mode) == (crop.size, "RGBA")
    opaque = np.asarray(overlay)[..., 3]
    assert opaque[:40].mean() > 150
    assert opaque[-40:].mean() < 10


@pytest.mark.slow
@pytest.mark.parametrize("detector", [AttentiveStub()])
def test_the_page_lays_attention_over_a_hit(live, detector, visit):
    with live() as port:
        base_url = f"http://127.0.0.1:{port}"
        with closing(Client(base_url)) as api:
            first = api.post("/gallery/images", [content()])
            api.post("/gallery/images", [picture(PERSON, size=(160, 121), file_format="PNG")])
        page = visit(base_url, f"#/search?person={first['detections'][0]['id']}")
        page.locator(".hit-open").click()
        page.get_by_role("button", name="Attention").click()
        overlay = page.locator("dialog .attention[src^='blob:']")
        overlay.wait_for()
        page.get_by_role("button", name="Attention").click()
        overlay.wait_for(state="hidden")
