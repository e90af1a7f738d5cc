"""Published by a proxy: below a path, behind TLS, in a frame, for pages of other sites.

All of it is closed until a setting opens it.
"""

import io
import re
import socket

import pytest
from PIL import Image

from service.app import create_app
from service.settings import Settings
from service.tests.serving import Client, served
from service.tests.stub import crop, picture

RED = ("red", (40, 40, 80, 160))
SITE = "https://portal.example"
SECRET = "boss-secret-0123456789"
BOSS = {"Authorization": f"Bearer {SECRET}"}


def addresses(page):
    """What a page loads and leads to."""
    return re.findall(r"(?:href|src)=[\"']?([^\"' >]+)", page)


@pytest.mark.parametrize("path", ["/", "/docs", "/docs/problems/not_found"])
def test_no_page_leads_to_the_root_of_its_host(client, path):
    found = addresses(client.get(path).text)

    assert found
    assert not [address for address in found if address.startswith("/")]


@pytest.mark.parametrize("sent", ["{path}", "/people{path}"], ids=["taken away", "left"])
def test_below_a_path_all_addresses_lead_below_it(start, sent):
    with start(root_path="/people/") as client:

        def at(path):
            return sent.format(path=path)

        made = client.post(at("/gallery/images"), files={"image": picture(RED)})
        assert made.status_code == 201
        assert made.headers["location"] == f"/people/gallery/images/{made.json()['id']}"
        later = client.post(at("/gallery/images?wait=false"), files={"image": picture(RED)})
        assert later.headers["location"] == f"/people/jobs/{later.json()['job_id']}"
        found = client.post(
            at("/search"),
            files={"image": crop("red")},
            data={"request": '{"include": ["crop_url"], "exclude_query_image": false}'},
        ).json()
        assert found["hits"][0]["crop_url"].startswith("/people/gallery/detections/")
        assert client.get(found["hits"][0]["crop_url"]).status_code == 200
        assert client.get(at("/openapi.json")).json()["servers"] == [{"url": "/people"}]
        for page in ("/", "/docs"):
            for address in addresses(client.get(at(page)).text):
                if not address.startswith("#"):
                    assert client.get(at("/" + address)).status_code == 200
        refused = client.put(at("/gallery/images/img_x"))
        assert (refused.status_code, refused.headers["allow"]) == (405, "DELETE, GET, HEAD, PATCH")
        assert refused.json()["instance"] == "/people/gallery/images/img_x"
        assert client.get(at("/nothing")).status_code == 404
        assert client.get("/peoples/livez").status_code == 404


def test_a_path_without_its_slash_leads_to_the_page(start):
    with start(root_path="/people") as client:
        answer = client.get("/people", follow_redirects=False)

        assert (answer.status_code, answer.headers["location"]) == (307, "/people/")


def test_addresses_that_a_client_invents_count_for_nothing(client):
    forged = dict.fromkeys(("X-Forwarded-Prefix", "X-Forwarded-Host", "Forwarded"), "/evil")
    answer = client.post("/gallery/images", files={"image": picture(RED)}, headers=forged)

    assert answer.headers["location"] == f"/gallery/images/{answer.json()['id']}"
    assert "evil" not in client.get("/", headers=forged).text


@pytest.mark.parametrize(
    ("proxies", "origin", "status"),
    [
        ("127.0.0.0/8", "https://localhost", 200),
        ("127.0.0.0/8", "http://localhost", 403),
        ("10.0.0.0/8", "https://localhost", 403),
        (None, "https://localhost", 403),
        (None, "http://localhost", 200),
    ],
)
def test_only_trusted_proxies_say_how_the_request_came(tmp_path, proxies, origin, status):
    with served(tmp_path / "data", trusted_proxies=proxies) as service:
        own = {"Host": "localhost", "Origin": origin, "X-Forwarded-Proto": "https"}
        with Client(service.port, headers=own) as client:
            assert client.post_form("/detect", picture(RED), headers=own)[0] == status


def test_pages_are_framed_by_nobody_or_by_those_named(client, start, tmp_path):
    for path in ("/", "/docs", "/livez"):
        headers = client.get(path).headers
        assert headers["x-frame-options"] == "DENY"
        assert "frame-ancestors 'none'" in headers["content-security-policy"]
    with start(data_dir=tmp_path / "other", frame_ancestors=f"'self', {SITE}/") as framed:
        for path in ("/", "/docs", "/livez"):
            headers = framed.get(path).headers
            assert "x-frame-options" not in headers
            assert f"frame-ancestors 'self' {SITE}" in headers["content-security-policy"]
            assert "'none'" in headers["content-security-policy"]


def test_pages_of_other_sites_may_ask_only_where_they_are_named(client, start, tmp_path):
    preflight = {
        "Origin": SITE,
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization",
    }
    refused = client.options("/search", headers=preflight)
    assert "access-control-allow-origin" not in refused.headers
    foreign = client.post("/search", files={"image": crop("red")}, headers={"Origin": SITE})
    assert foreign.status_code == 403

    keys = f"boss:admin:{SECRET}"
    with start(data_dir=tmp_path / "other", cors_origins=SITE, api_keys=keys) as shared:
        allowed = shared.options("/search", headers=preflight)
        assert allowed.headers["access-control-allow-origin"] == SITE
        assert "Authorization" in allowed.headers["access-control-allow-headers"]
        assert "access-control-allow-credentials" not in allowed.headers
        answer = shared.get("/gallery", headers={"Origin": SITE, **BOSS})
        assert answer.headers["access-control-allow-origin"] == SITE
        refusal = shared.get("/gallery", headers={"Origin": SITE})
        assert (refusal.status_code, refusal.headers["access-control-allow-origin"]) == (401, SITE)
        other = shared.get("/gallery", headers={"Origin": "https://evil.example", **BOSS})
        assert "access-control-allow-origin" not in other.headers


def test_a_named_site_may_make_changes_without_keys_and_others_may_not(start):
    with start(cors_origins=SITE) as client:
        for origin, status in ((SITE, 200), ("https://evil.example", 403), ("null", 403)):
            answer = client.post(
                "/detect", files={"image": picture(RED)}, headers={"Origin": origin}
            )
            assert answer.status_code == status, origin


def test_head_is_answered_as_get_is_but_for_the_body(client, add):
    image = add(RED)
    job = client.post("/gallery/images?wait=false", files={"image": crop("red")}).json()["job_id"]
    ids = {
        "image_id": image["id"],
        "detection_id": image["detections"][0]["id"],
        "job_id": job,
        "code": "not_found",
    }
    paths = [
        path.format_map({**dict.fromkeys(re.findall(r"{(\w+)}", path), "x"), **ids})
        for path, ways in client.app.openapi()["paths"].items()
        if "get" in ways
    ]

    assert len(paths) > 20
    for path in [*paths, "/assets/main.js", "/nothing"]:
        with client.stream("GET", path) as got:
            expected = got.status_code, got.headers["content-type"]
        head = client.head(path)
        assert (head.status_code, head.headers["content-type"]) == expected, path
        assert head.content == b"", path
    assert client.head("/search").status_code == 405
    again = client.get("/metrics").text
    assert 'method="HEAD",route="/livez",status="200"' in again


def test_head_of_what_has_no_end_ends(tmp_path):
    with served(tmp_path / "data") as service, Client(service.port, timeout=5) as client:
        job = client.post_form("/gallery/images?wait=false", crop("red"))[1]["job_id"]
        for path in (f"/jobs/{job}/events", "/", "/openapi.json", "/livez"):
            status, _, body = client.send("HEAD", path)
            assert (status, body) == (200, b""), path
        length = int(client.send("HEAD", "/openapi.json")[1]["content-length"])
        assert length == len(client.send("GET", "/openapi.json")[2])


@pytest.mark.parametrize(
    ("hosts", "status"),
    [
        ([], 400),
        (["localhost", "localhost"], 400),
        (["localhost", "evil.example"], 400),
        (["localhost:8000"], 200),
        (["LOCALHOST"], 200),
        (["[::1]:8000"], 200),
        (["127.1.2.3"], 200),
        (["evil.example"], 403),
        (["localhost.evil.example"], 403),
        (["localhost#.evil.example"], 400),
        (["evil@localhost"], 400),
        (["localhost/evil"], 400),
        (["localhost:evil"], 400),
        ([""], 400),
        (["127.0.0.1.evil.example"], 403),
        (["0"], 403),
    ],
)
def test_one_host_is_named_and_without_keys_it_is_this_machine(live, hosts, status):
    lines = "".join(f"Host: {host}\r\n" for host in hosts)
    with live() as port, socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(f"GET /livez HTTP/1.1\r\n{lines}Connection: close\r\n\r\n".encode())
        answer = b"".join(iter(lambda: connection.recv(65536), b""))

    assert answer.startswith(f"HTTP/1.1 {status}".encode()), answer


def test_the_document_is_the_same_for_every_root_path_but_for_its_server():
    plain, below = (create_app(Settings(root_path=path)).openapi() for path in ("", "/people"))

    assert below.pop("servers") == [{"url": "/people"}]
    assert below == plain


def test_a_picture_is_one_for_who_asks_below_a_path(start):
    with start(root_path="/people") as client:
        made = client.post("/gallery/images", files={"image": picture(RED)}).json()
        content = client.get(f"/people/gallery/images/{made['id']}/content").content

        assert Image.open(io.BytesIO(content)).size == (320, 240)
