"""Whatever comes in, the answer is a problem that names the matter: never a 500, never a hang."""

import contextlib
import http.client
import io
import json
import socket
import struct
import time
import zlib

import pytest
from PIL import Image
from starlette.testclient import TestClient

from api_tests.conftest import BASE
from indexer.tests.scenery import settings_of_tests
from service.app import create_app
from service.http.errors import PROBLEMS, TYPE_PREFIX
from service.settings import Settings
from service.tests.stub import StubDetector, crop, picture

JSON = {"Content-Type": "application/json"}
BOUNDARY = {"Content-Type": "multipart/form-data; boundary=b"}


@pytest.fixture(scope="module")
def refusing(tmp_path_factory):
    """A service that tests share: it refuses all that they send."""
    settings = settings_of_tests(tmp_path_factory.mktemp("refusing") / "data")
    app = create_app(Settings(**settings), StubDetector())
    with TestClient(app, base_url=BASE, raise_server_exceptions=False) as client:
        yield client
        assert client.get("/gallery").json()["images"] == 0


def assert_problem(answer, status, code):
    assert answer.headers["content-type"] == "application/problem+json", answer.text
    content = answer.json()
    assert (answer.status_code, content["code"]) == (status, code), content
    assert content["type"] == TYPE_PREFIX + code.replace("_", "-")
    assert content["status"] == status
    assert content["title"] == PROBLEMS[code].title
    assert content["retryable"] is PROBLEMS[code].retryable
    assert content["request_id"] == answer.headers["x-request-id"]
    assert content["detail"]
    return content


def bomb(width, height):
    """A small PNG file with very many black pixels."""

    def chunk(name, data):
        return (
            struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        )

    packer = zlib.compressobj(9)
    rows = b"".join(packer.compress(bytes(1 + width)) for _ in range(height)) + packer.flush()
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")
    )


def truncated():
    content = crop("red", (200, 200))
    return content[: len(content) // 2]


@pytest.mark.parametrize("path", ["/gallery/images", "/detect", "/search"])
@pytest.mark.parametrize(
    ("content", "status", "code"),
    [
        (lambda: b"", 422, "image_corrupt"),
        (truncated, 422, "image_truncated"),
        (lambda: bomb(13_000, 13_000), 413, "image_too_many_pixels"),
        (lambda: bomb(40, 20_000), 413, "image_too_many_pixels"),
        (lambda: b"%PDF-1.7 ...", 415, "unsupported_image_format"),
        (lambda: picture(size=(16, 16)), 422, "image_too_small"),
        (lambda: b"\xff\xd8\xff\xe0" + bytes(100), 422, "image_truncated"),
        (lambda: b"II*\0" + bytes(50), 422, "image_corrupt"),
    ],
    ids=["empty", "truncated", "bomb", "long", "pdf", "small", "torn", "tiff"],
)
def test_a_file_that_is_no_usable_picture_is_refused(refusing, path, content, status, code):
    answer = refusing.post(path, files={"image": ("picture.jpg", content(), "image/jpeg")})

    assert_problem(answer, status, code)


def test_a_picture_cut_anywhere_is_stored_or_refused(client):
    content = picture(("red", (40, 40, 80, 160)))
    for share in range(0, 100, 10):
        answer = client.post("/detect", files={"image": content[: len(content) * share // 100]})
        assert answer.status_code in (200, 413, 415, 422)


def test_odd_kinds_of_pictures_are_read(client):
    for mode, file_format in (("L", "JPEG"), ("CMYK", "JPEG"), ("P", "PNG"), ("LA", "PNG"),
                              ("RGBA", "WEBP"), ("I;16", "PNG"), ("1", "PNG")):  # fmt: skip
        buffer = io.BytesIO()
        Image.new("L", (64, 64), 99).convert(mode).save(buffer, file_format)
        answer = client.post("/detect", files={"image": buffer.getvalue()})
        assert answer.status_code == 200, mode


@pytest.mark.parametrize(
    ("box", "code"),
    [
        ((10, 10, 400, 100), "box_outside_image"),
        ((-20, 10, 40, 100), "box_outside_image"),
        ((10, 10, 10, 100), "validation_failed"),
        ((50, 10, 10, 100), "validation_failed"),
    ],
)
def test_a_box_that_does_not_fit_is_refused(refusing, box, code):
    box = dict(zip(("x1", "y1", "x2", "y2"), box, strict=True))
    wanted = json.dumps({"queries": [{"image": 0, "box": box}]})
    answer = refusing.post("/search", files={"image": picture()}, data={"request": wanted})

    content = assert_problem(answer, 422, code)
    if code == "validation_failed":
        assert content["errors"][0]["pointer"] == "/queries/0/box/x2"


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b'{"min_score": NaN}', "validation_failed"),
        (b'{"min_score": 1e400}', "validation_failed"),
        (b'{"min_score": -Infinity}', "validation_failed"),
        (b'{"queries": [{"image_id": "\\ud800"}]}', "malformed_body"),
        (b'{"\\ud800": 1}', "malformed_body"),
        (b'{"filter":' * 100_000, "malformed_body"),
        (b"[" * 200_000 + b"]" * 200_000, "malformed_body"),
        (b'{"a":' * 900 + b"1" + b"}" * 900, "malformed_body"),
        (b'{"limit": ' + b"9" * 1_000_000 + b"}", "malformed_body"),
        (b'{"limit": 99999999999999999999999}', "validation_failed"),
        (b'{"limit": 1, "limit": 2}', "malformed_body"),
        (b"\xef\xbb\xbf{}", "malformed_body"),
        (b'{"fusion": "\xff"}', "malformed_body"),
        (b"", "malformed_body"),
        (b"null", "validation_failed"),
        (b"[]", "validation_failed"),
        (b'{"limit": true}', "validation_failed"),
        (b'{"limit": "7\xc2\xb2"}', "validation_failed"),
    ],
    ids=lambda value: repr(value[:24]) if isinstance(value, bytes) else value,
)
def test_json_that_cannot_be_meant_is_refused(refusing, body, code):
    answer = refusing.post("/search", content=body, headers=JSON)

    content = assert_problem(answer, PROBLEMS[code].status, code)
    assert len(answer.content) < 10_000
    assert all(set(error) == {"pointer", "code", "message"} for error in content.get("errors", []))


def test_values_are_not_repeated_in_the_answer(client, add):
    add(metadata='{"external_id": "secret-17"}')
    sent = [
        client.post("/search", json={"fusion": "secret-17"}),
        client.post("/search", json={"filter": {"captured_at": {"from": "secret-17"}}}),
        client.get("/gallery/images", params={"limit": "secret-17"}),
        client.get("/gallery/images", params={"cursor": "secret-17"}),
        client.post("/gallery/images", files={"image": ("secret-17", b"secret-17")}),
        client.post(
            "/gallery/images",
            files={"image": crop("red")},
            data={"metadata": '{"external_id": "secret-17"}'},
        ),
    ]

    for answer in sent:
        assert 400 <= answer.status_code < 500
        assert "secret-17" not in answer.text


@pytest.mark.parametrize(
    "metadata",
    [
        '{"external_id": "with space"}',
        '{"camera_id": ""}',
        '{"camera_id": "a\\u0000b"}',
        '{"captured_at": "yesterday"}',
        '{"captured_at": "2026-11-20T08:15:00"}',
        '{"captured_at": "0001-01-01T00:00:00+14:00"}',
        '{"tags": "lobby"}',
        json.dumps({"tags": ["x"] * 33}),
        json.dumps({"tags": ["x" * 65]}),
        '{"attributes": {"a": {"b": "c"}}}',
        '{"attributes": {"a": 1}}',
        json.dumps({"attributes": {str(i): "x" * 1000 for i in range(5)}}),
        '{"camera": "a"}',
        "[]",
        "17",
    ],
)
def test_metadata_that_is_not_as_described_is_refused(refusing, metadata):
    answer = refusing.post(
        "/gallery/images", files={"image": crop("red")}, data={"metadata": metadata}
    )

    assert_problem(answer, 422, "validation_failed")


def test_a_patch_obeys_the_same_limits(client, add):
    path = f"/gallery/images/{add()['id']}"
    many = {"attributes": {str(number): "x" for number in range(33)}}

    assert_problem(client.patch(path, json=many), 422, "validation_failed")
    assert_problem(client.patch(path, json={"id": "img_x"}), 422, "validation_failed")
    assert_problem(client.patch(path, content=b"[]", headers=JSON), 422, "validation_failed")


def test_unknown_paths_and_methods_are_problems(client):
    assert_problem(client.get("/nothing"), 404, "not_found")
    assert_problem(client.get("/search/"), 404, "not_found")
    assert_problem(client.get("/gallery/images/img_none"), 404, "not_found")
    assert_problem(client.get("/docs/assets/../app.py"), 404, "not_found")
    answer = client.put("/gallery/images/img_none")
    assert_problem(answer, 405, "method_not_allowed")
    assert answer.headers["allow"] == "DELETE, GET, HEAD, PATCH"
    assert client.post("/docs").headers["allow"] == "GET, HEAD"


def test_other_media_types_are_refused(client):
    for headers in (
        {"Content-Type": "text/plain"},
        {"Content-Type": "application/json; charset=utf-16"},
        JSON | {"Content-Encoding": "gzip"},
        {"Content-Type": "application/json; " + "a=b;" * 5000},
        {},
    ):
        answer = client.post("/search", content=b"{}", headers=headers)
        assert_problem(answer, 415, "unsupported_media_type")
    answer = client.post("/gallery/images", json={})
    assert_problem(answer, 415, "unsupported_media_type")


@pytest.mark.parametrize(
    ("headers", "body", "code"),
    [
        ({"Content-Type": "multipart/form-data"}, b"x", "malformed_multipart"),
        (BOUNDARY, b"nonsense", "malformed_multipart"),
        (BOUNDARY, b"--b\r\nContent-Disposition: form-data\r\n\r\nx\r\n--b--",
         "malformed_multipart"),
        (BOUNDARY, b'--b\r\nContent-Disposition: form-data; name="image"; filename="a"\r\n\r\nx',
         "malformed_multipart"),
        ({"Content-Type": "multipart/form-data; boundary=b; charset=undefined"}, b"--b--",
         "unsupported_media_type"),
        (BOUNDARY, b'--b\r\nContent-Disposition: form-data; name="image"\r\n\r\nx\r\n--b--',
         "validation_failed"),
        (BOUNDARY, b'--b\r\nContent-Disposition: form-data; name="picture"; filename="a"\r\n\r\n'
         b"x\r\n--b--", "validation_failed"),
        (BOUNDARY, b"--b--", "validation_failed"),
    ],
)  # fmt: skip
def test_forms_that_cannot_be_read_are_refused(refusing, headers, body, code):
    answer = refusing.post("/gallery/images", content=body, headers=headers)

    assert_problem(answer, PROBLEMS[code].status, code)


def test_odd_file_names_do_no_harm(client):
    for name in ("../../etc/passwd", "a\0b", "x" * 1000, "naïve.jpg", ""):
        answer = client.post("/detect", files={"image": (name or None, crop("red"))})
        assert answer.status_code in (200, 400, 422), name


def test_too_many_files_and_parts_are_refused(client, start):
    files = [("image", b"x")] * 40
    content = assert_problem(client.post("/gallery/images", files=files), 413, "too_many_files")
    assert content["limits"] == {"max_files": 32}
    parts = [(f"f{number}", (None, b"x")) for number in range(1001)]
    assert_problem(client.post("/gallery/images", files=parts), 400, "malformed_multipart")
    large = {"metadata": "x" * 2_000_000}
    answer = client.post("/gallery/images", files={"image": b"x"}, data=large)
    assert_problem(answer, 413, "body_too_large")


def test_a_file_over_its_limit_is_refused_with_the_limit(tmp_path, start):
    with start(data_dir=tmp_path / "small", image_max_bytes=2000) as client:
        answer = client.post("/gallery/images", files={"image": bytes(2001)})
        content = assert_problem(answer, 413, "image_too_large")
        assert content["limits"] == {"max_bytes": 2000}
        answer = client.post("/search", files={"image": bytes(2001)})
        assert_problem(answer, 413, "image_too_large")


def test_a_large_body_is_refused_announced_or_not(live):
    head = b'--b\r\nContent-Disposition: form-data; name="image"; filename="a"\r\n\r\n'

    def chunks():
        yield head
        for _ in range(300):
            yield bytes(1000)

    with live(request_max_bytes=100_000, image_max_bytes=50_000) as port:
        for body in (head + bytes(200_000), chunks()):
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
            with contextlib.closing(connection):
                chunked = not isinstance(body, bytes)
                with contextlib.suppress(OSError):  # it may be answered before all was sent
                    connection.request("POST", "/search", body, BOUNDARY, encode_chunked=chunked)
                answer = connection.getresponse()
                assert answer.status == 413
                assert json.loads(answer.read())["code"] == "body_too_large"


def test_a_body_shorter_than_announced_holds_nobody_up(live):
    with live() as port:
        with socket.create_connection(("127.0.0.1", port)) as connection:
            connection.sendall(
                b"POST /search HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n"
                b"Content-Type: application/json\r\n\r\n{}"
            )
        time.sleep(0.05)
        answer = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        answer.request("GET", "/livez")

        assert answer.getresponse().status == 200
        answer.close()


def test_without_keys_other_sites_cannot_use_the_service(client):
    foreign = client.get("/gallery/images", headers={"Host": "attacker.example"})
    assert_problem(foreign, 403, "foreign_origin")
    posted = client.post(
        "/detect", files={"image": crop("red")}, headers={"Origin": "http://attacker.example"}
    )
    assert_problem(posted, 403, "foreign_origin")
    own = client.post(
        "/detect", files={"image": crop("red")}, headers={"Origin": "http://localhost"}
    )
    assert own.status_code == 200


def test_query_parameters_that_are_not_known_are_refused(client):
    for path in ("/search", "/detect", "/gallery/images"):
        answer = client.post(path, params={"limit": 5}, files={"image": crop("red")})
        assert_problem(answer, 422, "validation_failed")
    answer = client.get("/gallery/images/img_x", params={"full": 1})
    assert_problem(answer, 422, "validation_failed")


def test_a_fault_with_one_file_leaves_its_neighbours(client, detector, monkeypatch):
    detect = detector.detect

    def fail_at_small_ones(images):
        if images[0].shape[0] < 100:
            raise RuntimeError("the secret of the machine")
        return detect(images)

    monkeypatch.setattr(detector, "detect", fail_at_small_ones)
    files = [("image", crop("red")), ("image", picture())]
    entries = client.post("/gallery/images", files=files).json()["results"]

    assert [entry["status"] for entry in entries] == ["failed", "created"]
    assert (entries[0]["problem"]["status"], entries[0]["problem"]["code"]) == (500, "internal")
    assert "secret" not in str(entries)


def test_a_caller_may_ask_for_less_time_in_milliseconds_only(client):
    for value in ("0", "-1", "1.5", "soon", "²"):
        answer = client.post(
            "/detect", files={"image": crop("red")}, headers={"X-Timeout-Ms": value.encode()}
        )
        assert_problem(answer, 422, "validation_failed")


def test_the_unexpected_is_a_500_that_tells_only_the_request_id(
    client, detector, monkeypatch, caplog
):
    def fail(images):
        raise RuntimeError("the secret of the machine")

    monkeypatch.setattr(detector, "detect", fail)
    answer = client.post("/detect", files={"image": crop("red")})

    assert_problem(answer, 500, "internal")
    assert "secret" not in answer.text
    assert answer.headers["x-request-id"] in caplog.text
    assert client.get("/livez").status_code == 200


def flood(before, unit, after, size=2**20):
    return before + unit * (size // len(unit)) + after


FLOODS = [
    ("POST", "/search", flood(b'{"queries":[', b"{},", b"{}]}")),
    ("POST", "/search", flood(b'{"queries":[', b"0,", b"0]}")),
    ("POST", "/search", flood(b'{"filter":{"tags":{"all":[', b'"",', b'""]}}}')),
    ("POST", "/search", flood(b'{"include":[', b'"",', b'""]}')),
    ("POST", "/search", b"[" * 2**20),
    ("POST", "/search", b'{"a":1' + b"".join(b',"%d":1' % n for n in range(90_000)) + b"}"),
    ("POST", "/gallery/images:delete", flood(b'{"ids":[', b"{},", b"{}]}")),
    ("POST", "/gallery/images:delete", b'{"ids":[' + b"{}," * 999 + b"{}]}"),
    ("PATCH", "/gallery/images/img_x", flood(b'{"tags":[', b"1,", b"1]}")),
    ("PATCH", "/gallery/images/img_x", b'{"attributes":{"a":1'
     + b"".join(b',"%d":1' % n for n in range(90_000)) + b"}}"),
    ("PUT", "/gallery/detections/det_x/label", b'{"label":"' + b"a" * 2**22 + b'"}'),
    ("POST", "/evaluations", flood(b'{"protocol":{"queries":[', b"{},", b"{}]}}")),
    ("POST", "/evaluations", flood(b'{"protocol":{"queries":[{"holds":[', b"{},", b"{}]}]}}")),
    ("POST", "/evaluations", flood(b'{"protocol":{"queries":[],"images":[', b"0,", b"0]}}")),
    ("POST", "/calibrations", flood(b'{"targets":[', b'"",', b"0]}")),
    ("POST", "/erasures", flood(b'{"mode":"preview","image_ids":[', b"{},", b'""]}')),
    ("POST", "/keys", flood(b'{"name":"a","scopes":[', b'"",', b"0]}")),
]  # fmt: skip


@pytest.mark.parametrize(("method", "path", "body"), FLOODS, ids=lambda one: repr(one[:40]))
def test_many_faults_cost_little_and_few_are_told(refusing, method, path, body):
    began = time.process_time()
    answer = refusing.request(method, path, content=body, headers=JSON)

    assert time.process_time() - began < 2
    assert answer.status_code in (400, 413, 422)
    assert answer.headers["content-type"] == "application/problem+json"
    assert len(answer.json().get("errors", [])) <= 20
    assert len(answer.content) < 10_000


@pytest.mark.parametrize("part", ["request", "metadata"])
def test_many_faults_in_a_part_of_a_form_cost_little(refusing, part):
    doors = {"request": ("/search", b'{"queries":['), "metadata": ("/gallery/images", b"[")}
    path, before = doors[part]
    document = flood(before, b'{"x":1},', b"{}]" + b"}" * (part == "request"), 250 * 2**10)
    began = time.process_time()
    answer = refusing.post(path, files={"image": crop("red")}, data={part: document.decode()})

    assert time.process_time() - began < 2
    assert_problem(answer, 422, "validation_failed")


def test_a_document_is_refused_by_its_announced_length_and_by_its_real_one(live):
    with live() as port:
        for path, method in (("/gallery/images:delete", "POST"), ("/keys", "POST")):
            for head in (b"Content-Length: 2000000", b"Transfer-Encoding: chunked"):
                with socket.create_connection(("127.0.0.1", port)) as connection:
                    connection.sendall(
                        f"{method} {path} HTTP/1.1\r\nHost: localhost\r\n".encode()
                        + b"Content-Type: application/json\r\n" + head + b"\r\n\r\n"
                    )  # fmt: skip
                    with contextlib.suppress(ConnectionError):
                        for _ in range(32 * (head[:1] == b"T")):
                            connection.sendall(b"10000\r\n" + b" " * 0x10000 + b"\r\n")
                    connection.settimeout(10)
                    assert b" 413 " in connection.recv(100)


def test_the_time_for_a_request_counts_from_its_head(live):
    with live(search_deadline_s=1.5) as port:
        with socket.create_connection(("127.0.0.1", port)) as connection:
            connection.settimeout(20)
            began = time.monotonic()
            connection.sendall(
                b"POST /search HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000\r\n"
                b"Content-Type: application/json\r\n\r\n"
            )
            with contextlib.suppress(OSError):
                for _ in range(8):
                    connection.sendall(b" ")
                    time.sleep(0.5)
            answer = connection.recv(1000)

        assert b" 504 " in answer
        assert time.monotonic() - began < 12


def test_manifests_have_lines_that_can_be_read_and_not_too_many(start, tmp_path):
    (tmp_path / "photos").mkdir()
    jsonl = {"Content-Type": "application/jsonl"}
    with start(import_dir=tmp_path / "photos") as client:
        answer = client.post("/gallery/imports", content=b"\n" * 1_000_001, headers=jsonl)
        assert_problem(answer, 413, "body_too_large")
        answer = client.post("/gallery/imports", content=b"a" * 2**17, headers=jsonl)
        assert answer.status_code == 202
        job = answer.json()["job_id"]
        ends = time.monotonic() + 30
        while (record := client.get(f"/jobs/{job}").json())["state"] in ("queued", "running"):
            assert time.monotonic() < ends
            time.sleep(0.05)
        assert record["errors"][0]["problem"]["code"] == "body_too_large"


def bodies(schema, schemas, seen):
    """Every schema that a body is made of."""
    if "$ref" in schema:
        name = schema["$ref"].rsplit("/", 1)[1]
        if name not in seen:
            seen.add(name)
            yield from bodies(schemas[name], schemas, seen)
        return
    yield schema
    for inner in [*schema.get("properties", {}).values(), *schema.get("anyOf", ()),
                  *filter(None, [schema.get("items")])]:  # fmt: skip
        yield from bodies(inner, schemas, seen)


def test_every_list_in_a_body_has_an_end(refusing):
    document = refusing.app.openapi()
    schemas, seen, lists = document["components"]["schemas"], set(), 0
    for path, ways in document["paths"].items():
        for operation in ways.values():
            for media in operation.get("requestBody", {}).get("content", {}).values():
                for schema in bodies(media["schema"], schemas, seen):
                    if schema.get("type") == "array":
                        lists += 1
                        assert "maxItems" in schema, (path, schema)
                    if isinstance(schema.get("additionalProperties"), dict):
                        assert "maxProperties" in schema, (path, schema)
    assert lists > 10
