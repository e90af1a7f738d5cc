"""Promises about all routes at once, read from the application and its description."""

import io
import random
import string

import pytest
from fastapi.routing import APIRoute
from PIL import Image, ImageOps

from service.app import create_app
from service.http.auth import PUBLIC, SCOPE_FIELD
from service.settings import SCOPES, Settings
from service.tests.stub import picture

RED = ("red", (40, 40, 80, 160))
BLUE = ("blue", (200, 60, 236, 180))
SECRETS = {scope: f"{scope}-secret-0123456789" for scope in SCOPES}
KEYS = ",".join(f"{scope}er:{scope}:{secret}" for scope, secret in SECRETS.items())
# What each kind of key may reach; a key that is not here reaches public routes only.
REACHES = {"search": {"search"}, "ingest": {"ingest"}, "metrics": {"metrics"}, "admin": set(SCOPES)}
TURNED = {  # how a camera stores an upright picture so that the EXIF orientation turns it back
    1: lambda image: image,
    2: ImageOps.mirror,
    3: lambda image: image.rotate(180),
    4: ImageOps.flip,
    5: lambda image: ImageOps.mirror(image).rotate(90, expand=True),
    6: lambda image: image.rotate(90, expand=True),
    7: lambda image: ImageOps.mirror(image).rotate(-90, expand=True),
    8: lambda image: image.rotate(-90, expand=True),
}


def operations(app):
    return [
        (method.upper(), path, operation)
        for path, ways in app.openapi()["paths"].items()
        for method, operation in ways.items()
    ]


def own_routes(router):
    """Every route of ours, also those that the description leaves out."""
    for route in router.routes:
        if isinstance(route, APIRoute):
            yield route
        elif hasattr(route, "original_router"):
            yield from own_routes(route.original_router)


def test_every_route_declares_a_scope_and_asks_for_it():
    app = create_app(Settings())
    found = list(own_routes(app))

    assert len(found) >= len(operations(app))
    for route in found:
        assert (route.openapi_extra or {}).get(SCOPE_FIELD) in (*SCOPES, PUBLIC), route.path
        called = {each.call.__name__ for each in route.dependant.dependencies}
        assert "authorize" in called, route.path


def test_each_kind_of_key_reaches_exactly_the_routes_of_its_scopes(start, tmp_path):
    with start(data_dir=tmp_path / "keys", api_keys=KEYS) as client:
        for method, path, operation in operations(client.app):
            needed = operation[SCOPE_FIELD]
            callers = {None: 401, "wrong": 401} | dict.fromkeys(SECRETS, 403)
            for caller, refusal in callers.items():
                secret = SECRETS.get(caller, "no-such-secret-0123456789")
                headers = {"Authorization": f"Bearer {secret}"} if caller else {}
                url = path.replace("{", "").replace("}", "")
                answer = client.request(method, url, headers=headers)
                allowed = needed == PUBLIC or needed in REACHES.get(caller, ())
                told = (method, path, caller, answer.status_code)
                assert allowed == (answer.status_code not in (401, 403)), told
                assert allowed or answer.status_code == refusal, told
                assert answer.status_code < 500, told


@pytest.mark.slow
def test_a_thousand_random_paths_add_no_series(client):
    chance = random.Random(5)

    def series():
        lines = client.get("/metrics").text.splitlines()
        return {line.rsplit(" ", 1)[0] for line in lines if not line.startswith("#")}

    for path in ("/nothing", "/gallery/images/x", "/gallery/detections/x"):
        client.get(path)
    client.request("BREW", "/nothing")
    series()
    before = series()
    for _ in range(1000):
        name = "".join(chance.choices(string.ascii_letters + string.digits + "/-_.", k=12))
        start = chance.choice(["/", "/gallery/images/x", "/gallery/detections/x"])
        client.get(start + name.replace("/", "") if start != "/" else "/n" + name)
        client.request("X" + name[:5].upper().replace("/", "Y"), "/nothing")

    assert series() == before


@pytest.mark.parametrize("kind", ["JPEG", "WEBP", "AVIF"])
def test_turned_pictures_have_the_same_people_and_are_kept_upright(client, kind):
    upright = Image.open(io.BytesIO(picture(RED, BLUE, file_format="PNG")))
    expected = client.post("/detect", files={"image": picture(RED, BLUE)}).json()["detections"]
    first = None
    for orientation, turn in TURNED.items():
        exif = Image.Exif()
        exif[0x0112] = orientation
        exif.get_ifd(0x8825)[2] = (52.0, 31.0, 12.0)  # GPS latitude
        file = io.BytesIO()
        turn(upright).save(file, kind, exif=exif, quality=95)

        image = client.post("/gallery/images", files={"image": file.getvalue()}).json()

        assert (image["width"], image["height"]) == upright.size
        assert len(image["detections"]) == len(expected) == 2
        for one, other in zip(image["detections"], expected, strict=True):
            for side in ("x1", "y1", "x2", "y2"):
                assert abs(one["box"][side] - other["box"][side]) <= 1, orientation
        kept = Image.open(io.BytesIO(client.get(f"/gallery/images/{image['id']}/content").content))
        assert (kept.size, dict(kept.getexif())) == (upright.size, {})
        ask = {"queries": [{"detection_id": image["detections"][0]["id"]}]}
        hits = client.post("/search", json=ask).json()["hits"]
        if first is not None:
            assert hits[0]["detection"]["box"] == pytest.approx(first, abs=1)
        first = image["detections"][0]["box"]
