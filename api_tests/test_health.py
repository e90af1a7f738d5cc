"""Promises about the service itself: health, metrics, keys, documentation."""

import dataclasses
import itertools
import time

import pytest

from service.http.auth import SCOPE_FIELD
from service.http.errors import PROBLEMS
from service.settings import SCOPES
from service.tests.stub import crop

SECRETS = {scope: f"{scope}-secret-0123456789" for scope in SCOPES}
KEYS = ",".join(f"{scope}er:{scope}:{secret}" for scope, secret in SECRETS.items())
PATHS = {
    "image_id": "img_x",
    "detection_id": "det_x",
    "job_id": "job_x",
    "calibration_id": "cal_x",
    "code": "not_found",
    "snapshot_id": "snap_x",
    "erasure_id": "era_x",
    "generation_id": "gen_x",
    "key_id": "key_x",
    "name": "x",
}
SENT_EMPTY = ("/cancel", "/snapshots", "/compact", "/reindex", "/activate")


def bearer(secret):
    return {"Authorization": f"Bearer {secret}"}


def routes(client):
    """(method, path, scope) of every route, from the service's own description."""
    for path, operations in client.get("/openapi.json").json()["paths"].items():
        for method, operation in operations.items():
            yield method.upper(), path.format(**PATHS), operation[SCOPE_FIELD]


def test_a_started_service_is_alive_ready_and_well(client):
    assert client.get("/livez").json() == {"alive": True}
    ready = client.get("/readyz")
    assert (ready.status_code, ready.json()["ready"]) == (200, True)
    assert client.get("/health").json()["status"] == "ok"


def test_originals_that_no_image_has_are_counted(start, tmp_path):
    with start():
        pass
    (tmp_path / "data" / "originals").joinpath("0" * 64).write_bytes(b"lost")

    with start() as client:
        health = client.get("/health").json()
        assert health["quarantine"] == {"files": 1, "bytes": 4}
        assert health["status"] == "ok"
        assert "person_search_quarantine_files 1.0" in client.get("/metrics").text


def test_the_model_ran_before_the_first_request(client, detector):
    assert len(detector.asked) >= 2


def test_a_full_disk_refuses_writes_but_not_searches(client, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda path: _Usage(100 * 2**30, 0, 2**20))

    assert client.get("/readyz").status_code == 503
    answer = client.post("/gallery/images", files={"image": crop("red")})
    assert (answer.status_code, answer.json()["code"]) == (507, "insufficient_storage")
    assert client.post("/search", files={"image": crop("red")}).status_code == 200


def test_a_stuck_model_is_not_ready_and_is_again_when_it_goes_on(start, detector):
    with start(search_deadline_s=0.2) as client:
        assert client.get("/readyz").status_code == 200
        detector.go.clear()
        assert client.post("/search", files={"image": crop("red")}).status_code == 504

        ends = time.monotonic() + 20
        while (stuck := client.get("/readyz")).status_code == 200:
            assert time.monotonic() < ends
            time.sleep(0.01)

        assert stuck.status_code == 503
        assert not stuck.json()["checks"]["model"]["ok"]
        assert client.get("/livez").status_code == 200
        detector.go.set()
        ends = time.monotonic() + 20
        while client.get("/readyz").status_code != 200:
            assert time.monotonic() < ends
            time.sleep(0.01)


class _Usage:
    def __init__(self, total, used, free):
        self.total, self.used, self.free = total, used, free


def test_version_tells_model_and_limits(client):
    version = client.get("/version").json()

    assert version["model"]["name"] == "stub"
    assert version["limits"]["image_max_bytes"] == 20 * 2**20
    assert "api_keys" not in str(version)


def test_every_response_carries_an_id_and_forbids_sniffing(client):
    for path in ("/livez", "/nothing", "/docs", "/gallery/images"):
        answer = client.get(path, headers={"X-Request-Id": "mine-17"})
        assert answer.headers["x-request-id"] == "mine-17"
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert "unsafe" not in answer.headers["content-security-policy"]
    bad = client.get("/livez", headers={"X-Request-Id": "a b"}).headers["x-request-id"]
    assert bad.startswith("req_")


def test_the_documentation_loads_nothing_from_elsewhere(client):
    page = client.get("/docs")

    for text in (page.text, client.get("/docs/assets/docs.js").text):
        assert "https://" not in text
    for asset in ("docs.js", "docs.css"):
        assert f'"docs/assets/{asset}"' in page.text  # relative: it works below a path
        assert client.get(f"/docs/assets/{asset}").status_code == 200
    for code in PROBLEMS:
        assert code in client.get(f"/docs/problems/{code}").text


def test_the_description_has_every_body_and_no_dangling_reference(client):
    document = client.get("/openapi.json").json()
    schemas = document["components"]["schemas"]

    def references(value):
        if isinstance(value, dict):
            yield from ([value["$ref"]] if isinstance(value.get("$ref"), str) else [])
            value = list(value.values())
        if isinstance(value, list):
            yield from itertools.chain.from_iterable(map(references, value))

    assert {ref.removeprefix("#/components/schemas/") for ref in references(document)} <= set(
        schemas
    )
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            assert operation["summary"], path
            sends = method in ("post", "put", "patch") and not path.endswith(SENT_EMPTY)
            assert sends == ("requestBody" in operation), path
            assert "application/problem+json" in operation["responses"]["default"]["content"]


def test_every_route_obeys_its_scope(start, tmp_path):
    with start(data_dir=tmp_path / "keys", api_keys=KEYS) as client:
        found = list(routes(client))
        assert {scope for _, _, scope in found} == {*SCOPES, "public"}
        for method, path, needed in found:
            anonymous = client.request(method, path)
            assert (anonymous.status_code == 401) == (needed != "public"), path
            if needed == "public":
                continue
            assert anonymous.json()["code"] == "unauthenticated"
            assert anonymous.headers["www-authenticate"].startswith("Bearer")
            wrong = client.request(method, path, headers=bearer("x" * 20))
            assert wrong.status_code == 401, path
            for scope, secret in SECRETS.items():
                answer = client.request(method, path, headers=bearer(secret))
                allowed = scope in (needed, "admin")
                assert (answer.status_code == 403) == (not allowed), (method, path, scope)
                assert answer.status_code not in (401, 500)


def test_originals_are_only_for_admins(start, tmp_path):
    with start(data_dir=tmp_path / "keys", api_keys=KEYS) as client:
        image = client.post(
            "/gallery/images", files={"image": crop("red")}, headers=bearer(SECRETS["ingest"])
        ).json()
        path = f"/gallery/images/{image['id']}/content"

        assert client.get(path, headers=bearer(SECRETS["search"])).status_code == 200
        for scope, status in (("search", 403), ("admin", 200)):
            answer = client.get(path, params={"original": 1}, headers=bearer(SECRETS[scope]))
            assert answer.status_code == status


def test_keys_answer_on_any_host_name(start, tmp_path):
    with start(data_dir=tmp_path / "keys", api_keys=KEYS) as client:
        answer = client.get(
            "/gallery/images", headers=bearer(SECRETS["search"]) | {"Host": "search.example"}
        )
        assert answer.status_code == 200


def test_metrics_count_requests_and_do_not_grow_with_paths(client):
    def series():
        return {
            line.rsplit(" ", 1)[0]
            for line in client.get("/metrics").text.splitlines()
            if not line.startswith("#")
        }

    client.get("/nothing")
    client.get("/gallery/images/img_first")
    client.request("BREW", "/nothing")
    series()
    before = series()
    for number in range(100):
        client.get(f"/nothing/{number}")
        client.get(f"/gallery/images/img_{number}")
    client.request("PUZZLE", "/nothing")
    after = series()

    assert after == before
    assert any("person_search_images" in name for name in before)
    assert any('route="/gallery/images/{image_id}"' in name for name in before)


@pytest.mark.parametrize("colour", ["red", "green"])
def test_secrets_stay_out_of_logs(start, tmp_path, caplog, colour):
    caplog.set_level("DEBUG")
    with start(data_dir=tmp_path / "keys", api_keys=KEYS) as client:
        client.get("/gallery/images", headers=bearer(SECRETS["admin"]))
        client.post("/search", files={"image": crop(colour)}, headers=bearer("y" * 20))

    for secret in (*SECRETS.values(), "y" * 20):
        assert secret not in caplog.text


def test_the_start_says_which_model_answers_and_under_what_terms(start, detector, caplog):
    training = {"licence": "research only"}
    detector.card = dataclasses.replace(detector.card, training=training)

    with caplog.at_level("INFO", logger="service"), start():
        pass

    assert "terms of model stub: research only" in caplog.messages
