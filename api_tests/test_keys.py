"""Promises about API keys that are made while the service runs."""

import json

import pytest

from service.http.keys import FILE, MAX_KEYS, Keys
from service.settings import Settings
from service.tests.stub import crop

BOSS = "boss-secret-0123456789"
KEYS = f"boss:admin:{BOSS}"


@pytest.fixture
def start_with_keys(start):
    return lambda **settings: start(**{"api_keys": KEYS, **settings})


def bearer(secret):
    return {"headers": {"Authorization": f"Bearer {secret}"}}


def make(client, name="reader", scopes=("search",), secret=BOSS):
    return client.post("/keys", json={"name": name, "scopes": list(scopes)}, **bearer(secret))


def search(client, secret):
    return client.post("/search", files={"image": crop("red")}, **bearer(secret)).status_code


def test_a_key_that_was_made_does_what_its_scopes_allow_until_it_is_deleted(start_with_keys):
    with start_with_keys() as client:
        answer = make(client)
        made = answer.json()

        assert answer.status_code == 201
        assert answer.headers["cache-control"] == "no-store"
        assert set(made) == {"id", "name", "scopes", "created_at", "secret"}
        assert (made["id"][:4], made["name"], made["scopes"]) == ("key_", "reader", ["search"])
        assert len(made["secret"]) >= 40
        assert search(client, made["secret"]) == 200
        assert client.delete("/gallery/images/x", **bearer(made["secret"])).status_code == 403
        assert make(client, "other", secret=made["secret"]).status_code == 403

        assert client.delete(f"/keys/{made['id']}", **bearer(BOSS)).status_code == 204
        assert search(client, made["secret"]) == 401
        assert client.delete(f"/keys/{made['id']}", **bearer(BOSS)).status_code == 404


def test_what_one_service_does_with_keys_counts_at_another_of_the_same_directory(tmp_path):
    given = Settings(data_dir=tmp_path, api_keys=KEYS).read_keys()
    one, other = Keys(given, tmp_path), Keys(given, tmp_path)

    made, secret = one.make("key_1", "reader", ["search"])
    assert other.find(secret) == made.key
    second, _ = other.make("key_2", "kiosk", ["search"])
    assert [key.id for key in one.stored] == [made.id, second.id]

    other.remove(made.id)
    assert one.find(secret) is None
    assert [key.id for key in one.stored] == [second.id]


def test_keys_are_listed_without_secrets(start_with_keys):
    with start_with_keys() as client:
        made = make(client, scopes=["search", "ingest", "search"]).json()
        answer = client.get("/keys", **bearer(BOSS))

        assert answer.json()["items"] == [
            {"id": None, "name": "boss", "scopes": ["admin"], "created_at": None},
            {name: made[name] for name in ("id", "name", "scopes", "created_at")},
        ]
        assert made["scopes"] == ["ingest", "search"]
        assert made["secret"] not in answer.text


def test_keys_outlive_a_restart_and_deleted_ones_stay_deleted(start_with_keys):
    with start_with_keys() as client:
        kept, gone = make(client, "kept").json(), make(client, "gone").json()
        client.delete(f"/keys/{gone['id']}", **bearer(BOSS))

    with start_with_keys() as client:
        assert (search(client, kept["secret"]), search(client, gone["secret"])) == (200, 401)
        assert make(client, "gone").status_code == 201


def test_a_secret_is_nowhere_in_the_data_directory(start_with_keys, tmp_path, caplog):
    with start_with_keys() as client:
        secret = make(client).json()["secret"]
        assert search(client, secret) == 200
        trail = client.get("/audit", **bearer(BOSS)).text

    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert any(path.name == FILE for path in files)
    assert not any(secret.encode() in path.read_bytes() for path in files)
    assert secret not in trail + caplog.text
    assert (tmp_path / "data" / FILE).stat().st_mode & 0o077 == 0


def test_what_is_done_with_a_made_key_is_done_in_its_name(start_with_keys):
    with start_with_keys() as client:
        chief = make(client, "chief", ["admin"]).json()
        made = make(client, "third", secret=chief["secret"]).json()
        client.delete(f"/keys/{made['id']}", **bearer(chief["secret"]))
        entries = client.get("/audit", **bearer(BOSS)).json()["items"]

        told = [(one["key"], one["action"], one["subject"]) for one in entries]
        assert [one for one in told if one[1].startswith("key_")] == [
            ("chief", "key_deleted", made["id"]),
            ("chief", "key_made", made["id"]),
            ("boss", "key_made", chief["id"]),
        ]


@pytest.mark.parametrize(
    "wrong",
    [
        {"name": "a b", "scopes": ["search"]},
        {"name": "", "scopes": ["search"]},
        {"name": "x", "scopes": []},
        {"name": "x", "scopes": ["everything"]},
        {"name": "x"},
        {"name": "x", "scopes": ["search"], "secret": "my own secret 0123456789"},
    ],
)
def test_a_key_that_cannot_be_meant_is_refused(start_with_keys, wrong):
    with start_with_keys() as client:
        answer = client.post("/keys", json=wrong, **bearer(BOSS))

        assert (answer.status_code, answer.json()["code"]) == (422, "validation_failed")
        assert len(client.get("/keys", **bearer(BOSS)).json()["items"]) == 1


def test_names_are_not_given_twice_and_keys_are_not_endless(start_with_keys, monkeypatch):
    with start_with_keys() as client:
        assert make(client).status_code == 201
        for name in ("reader", "boss"):
            assert make(client, name).json()["code"] == "key_name_taken"
        monkeypatch.setattr("service.http.keys.MAX_KEYS", 2)
        assert make(client, "second").status_code == 201
        assert make(client, "third").json()["code"] == "too_many_keys"
    assert MAX_KEYS > 2


def test_the_first_key_comes_from_the_settings(start, start_with_keys):
    with start() as client:
        answer = client.post("/keys", json={"name": "first", "scopes": ["admin"]})
        assert (answer.status_code, answer.json()["code"]) == (409, "keys_off")
    with start_with_keys() as client:
        made = make(client).json()
    with start() as client:  # the keys of the settings are gone; who has none is kept out
        assert client.get("/keys").status_code == 401
        assert search(client, made["secret"]) == 200


def test_damaged_keys_and_a_name_of_both_kinds_hinder_the_start(start_with_keys, tmp_path):
    with start_with_keys() as client:
        make(client)
    both = f"{KEYS},reader:search:another-secret-0123456789"
    with pytest.raises(Exception, match="reader is also the name"), start_with_keys(api_keys=both):
        pass
    path = tmp_path / "data" / FILE
    document = json.loads(path.read_text())
    for damaged in ("{", '{"keys": [{}]}', json.dumps(document).replace("search", "everything")):
        path.write_text(damaged)
        with pytest.raises(Exception, match="cannot read the API keys"), start_with_keys():
            pass


@pytest.mark.parametrize(
    "damaged",
    [
        b"",
        b"{",
        b"[" * 100_000,
        b"null",
        b"\xff",
        b'{"keys": [{}]}',
        b'{"keys": [{"id": "key_1", "name": "a", "scopes": "admin", "sha256": ""}]}',
        b'{"keys": []}' + b" " * 2**21,
    ],
)
def test_keys_that_become_unreadable_make_the_service_not_ready(start_with_keys, tmp_path, damaged):
    with start_with_keys() as client:
        made = make(client).json()
        path = tmp_path / "data" / FILE
        whole = path.read_bytes()
        assert client.get("/readyz").status_code == 200
        path.write_bytes(damaged)

        told = client.get("/readyz")
        assert (told.status_code, told.json()["checks"]["keys"]) == (503, {"ok": False})
        assert client.get("/livez").status_code == 200
        assert client.get("/health").json()["status"] == "degraded"
        assert search(client, made["secret"]) == 503
        assert client.get("/gallery").status_code == 401
        path.write_bytes(whole)
        assert client.get("/readyz").status_code == 200
        assert search(client, made["secret"]) == 200


def test_the_end_of_the_last_key_opens_nothing(start, start_with_keys, tmp_path):
    with start_with_keys() as client:
        boss = make(client, "chief", ["admin"]).json()
    with start() as client:  # of the settings there are none any more
        assert client.get("/gallery").status_code == 401
        assert client.get("/gallery", headers={"Host": "evil.example"}).status_code == 401
        assert client.delete(f"/keys/{boss['id']}", **bearer(boss["secret"])).status_code == 204
        assert client.get("/gallery").status_code == 401
        (tmp_path / "data" / FILE).unlink()
        assert client.get("/gallery").status_code == 401
        assert client.get("/whoami").json()["keys"] is True


def test_without_keys_the_first_one_of_another_service_closes_this_one(start, tmp_path):
    given = Settings(data_dir=tmp_path, api_keys=KEYS).read_keys()
    with start() as client:
        assert client.get("/gallery", headers={"Host": "evil.example"}).status_code == 403
        assert client.get("/gallery").status_code == 200
        Keys(given, tmp_path / "data").make("key_1", "reader", ["search"])

        assert client.get("/gallery").status_code == 401


def test_the_next_key_of_a_name_is_somebody_else(start_with_keys):
    add = {"files": {"image": crop("red")}}
    with start_with_keys() as client:
        first = make(client, "kiosk", ["ingest", "search"]).json()
        sent = {"headers": {**bearer(first["secret"])["headers"], "Idempotency-Key": "one"}}
        job = client.post("/gallery/images?wait=false", **add, **sent).json()["job_id"]
        assert client.get(f"/jobs/{job}", **bearer(first["secret"])).status_code == 200
        client.delete(f"/keys/{first['id']}", **bearer(BOSS))
        second = make(client, "kiosk", ["ingest", "search"]).json()

        assert client.get("/jobs", **bearer(second["secret"])).json()["items"] == []
        for method, path in (("GET", ""), ("GET", "/events"), ("POST", "/cancel")):
            answer = client.request(method, f"/jobs/{job}{path}", **bearer(second["secret"]))
            assert answer.status_code == 404, path
        sent["headers"]["Authorization"] = f"Bearer {second['secret']}"
        other = client.post("/gallery/images?wait=false", **add, **sent)
        assert "idempotency-replayed" not in other.headers
        assert other.json()["job_id"] != job
        assert client.get(f"/jobs/{job}", **bearer(BOSS)).status_code == 200
        trail = client.get("/audit?action=image_added", **bearer(BOSS)).json()["items"]
        assert {entry["key"] for entry in trail} <= {"kiosk"}


def test_a_full_disk_makes_no_key_and_deletes_none(start_with_keys, monkeypatch):
    with start_with_keys() as client:
        made = make(client).json()

        def full(*_):
            raise OSError(28, "No space left on device")

        with monkeypatch.context() as patched:
            patched.setattr("service.http.keys.os.fsync", full)
            assert make(client, "second").status_code == 507
            assert client.delete(f"/keys/{made['id']}", **bearer(BOSS)).status_code == 507
        assert search(client, made["secret"]) == 200
        assert make(client, "second").status_code == 201
