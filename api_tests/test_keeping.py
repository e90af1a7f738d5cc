"""Promises about snapshots, erasures, the audit trail, retention and compaction."""

import io
import json
import tarfile
import time
from datetime import UTC, datetime, timedelta

import pytest

from indexer.gallery.gallery import Gallery
from indexer.gallery.manifest import check_snapshot
from indexer.gallery.restoring import restore_snapshot
from service.running import previews
from service.tests.stub import crop, picture

RED = ("red", (40, 40, 80, 160))
BLUE = ("blue", (200, 60, 236, 180))
GREEN = ("green", (120, 50, 160, 170))
KEYS = "anna:ingest:anna-secret-0123456789,bert:admin:bert-secret-0123456789"
ANNA = {"Authorization": "Bearer anna-secret-0123456789"}
BERT = {"Authorization": "Bearer bert-secret-0123456789"}


def finished(client, job_id, **options):
    """Wait for a job; what it gave."""
    ends = time.monotonic() + 30
    while True:
        job = client.get(f"/jobs/{job_id}", **options).json()
        if job["state"] not in ("queued", "running"):
            assert job["state"] == "succeeded", job
            return job["result"]
        assert time.monotonic() < ends
        time.sleep(0.02)


def snapshot(client):
    accepted = client.post("/snapshots")
    assert accepted.status_code == 202, accepted.text
    finished(client, accepted.json()["job_id"])
    return accepted.json()["snapshot_id"]


def preview(client, **wanted):
    answer = client.post("/erasures", json={"mode": "preview", **wanted})
    assert answer.status_code == 200, answer.text
    return answer.json()


def execute(client, token):
    accepted = client.post("/erasures", json={"mode": "execute", "token": token})
    assert accepted.status_code == 202, accepted.text
    finished(client, accepted.json()["job_id"])
    return client.get(accepted.headers["location"]).json()


def found_in(directory, *needles):
    return [
        path
        for path in directory.rglob("*")
        if path.is_file() and any(needle in path.read_bytes() for needle in needles)
    ]


# Snapshots


def test_a_snapshot_is_made_listed_downloaded_restored_and_deleted(client, add, tmp_path):
    first = add(RED)
    id = snapshot(client)
    second = add(BLUE)

    (listed,) = client.get("/snapshots").json()["items"]
    assert (listed["id"], listed["state"], listed["images"]) == (id, "whole", 1)
    answer = client.get(f"/snapshots/{id}/content")
    assert answer.headers["content-type"] == "application/x-tar"
    assert int(answer.headers["content-length"]) == len(answer.content)
    with tarfile.open(fileobj=io.BytesIO(answer.content)) as tar:
        tar.extractall(tmp_path / "unpacked", filter="data")
    check_snapshot(tmp_path / "unpacked" / id)
    restore_snapshot(tmp_path / "unpacked" / id, tmp_path / "there")
    with Gallery.reopen(tmp_path / "there") as gallery:
        assert [scene.id for scene in gallery.scenes.page().scenes] == [first["id"]]
    assert client.get(f"/gallery/images/{second['id']}").status_code == 200
    assert client.delete(f"/snapshots/{id}").status_code == 204
    assert client.delete(f"/snapshots/{id}").status_code == 404
    assert client.get(f"/snapshots/{id}/content").status_code == 404
    assert client.get("/snapshots").json() == {"items": []}


def test_snapshots_lie_where_the_setting_says(start, tmp_path):
    with start(snapshot_dir=tmp_path / "elsewhere") as client:
        id = snapshot(client)

        assert check_snapshot(tmp_path / "elsewhere" / id).scenes == 0


def test_a_snapshot_job_that_is_run_again_makes_no_second_one(client, add):
    add(RED)
    id = snapshot(client)
    parts = client.app.state.parts
    again = parts.jobs.submit("snapshot", {"snapshot_id": id}, key=None)

    assert finished(client, again.id)["snapshot_id"] == id
    assert len(client.get("/snapshots").json()["items"]) == 1


# Erasures


def test_a_preview_erases_nothing_and_its_token_erases_what_it_showed(client, add, tmp_path):
    red, blue = add(RED), add(BLUE)

    shown = preview(client, image_ids=[red["id"], "img_none"])
    assert (shown["images"], shown["detections"], shown["remains"]) == (1, 1, None)
    (match,) = shown["matches"]
    assert match["image_id"] == red["id"]
    assert match["detection_ids"] == [red["detections"][0]["id"]]
    assert client.get(f"/gallery/images/{red['id']}").status_code == 200
    receipt = execute(client, shown["token"])

    assert receipt["state"] == "completed"
    assert (receipt["erased"], receipt["images"], receipt["detections"]) == ("images", 1, 1)
    assert receipt["snapshots"] == []
    assert client.get(f"/gallery/images/{red['id']}").status_code == 404
    assert client.get(f"/gallery/images/{blue['id']}").status_code == 200
    assert client.get("/erasures").json()["items"][0]["id"] == receipt["id"]
    again = client.post("/erasures", json={"mode": "execute", "token": shown["token"]})
    assert (again.status_code, again.json()["code"]) == (410, "erasure_token")


@pytest.mark.sqlite
def test_no_byte_of_what_was_erased_is_in_the_data_directory(client, tmp_path):
    contents = [picture(RED, BLUE, file_format="PNG", seed=seed) for seed in range(12)]
    images = []
    for content in contents:
        headers = {"Idempotency-Key": f"key {len(images)}"}
        about = json.dumps({"attributes": {"name": f"person {len(images):03}"}})
        answer = client.post(
            "/gallery/images", files={"image": content}, data={"metadata": about}, headers=headers
        )
        images.append(answer.json())
    data = tmp_path / "data"
    erased = images[3]
    # Every image shows the same people, so their embeddings are alike; the next test is of those.
    needles = [contents[3], erased["sha256"].encode(), b"person 003"]
    crops = [
        client.get(f"/gallery/detections/{one['id']}/crop").content for one in erased["detections"]
    ]
    client.get(f"/gallery/images/{erased['id']}/thumbnail")
    assert len(found_in(data, *needles)) > 1

    execute(client, preview(client, image_ids=[erased["id"]])["token"])

    assert found_in(data, *needles, *crops) == []


@pytest.mark.sqlite
def test_what_a_job_was_told_about_an_erased_image_is_gone_with_it(client, tmp_path):
    about = json.dumps({"attributes": {"name": "person 003"}})
    accepted = client.post(
        "/gallery/images",
        params={"wait": False},
        files={"image": picture(RED)},
        data={"metadata": about},
        headers={"Idempotency-Key": "once"},
    ).json()
    (id,) = finished(client, accepted["job_id"])["image_ids"]
    assert found_in(tmp_path / "data", b"person 003")

    execute(client, preview(client, image_ids=[id])["token"])

    assert found_in(tmp_path / "data", b"person 003") == []
    assert client.get(f"/jobs/{accepted['job_id']}").json()["state"] == "succeeded"


@pytest.mark.sqlite
def test_an_embedding_that_was_erased_is_nowhere(client, add, tmp_path):
    red = add(RED)
    add(BLUE)
    parts = client.app.state.parts
    needle = parts.gallery.people.embedding(red["detections"][0]["id"]).tobytes()
    assert found_in(tmp_path / "data", needle)

    execute(client, preview(client, image_ids=[red["id"]])["token"])

    assert found_in(tmp_path / "data", needle) == []


def test_a_person_is_erased_by_a_picture(client, add):
    red, both, blue = add(RED), add(RED, BLUE), add(BLUE)
    request = {"mode": "preview", "query": {"image": 0, "crop": True}, "min_score": 0.5}

    answer = client.post(
        "/erasures", files={"image": crop("red")}, data={"request": json.dumps(request)}
    )
    shown = answer.json()
    assert {match["image_id"] for match in shown["matches"]} == {red["id"], both["id"]}
    assert shown["matches"][0]["score"] >= shown["matches"][1]["score"] > 0.5
    assert (shown["images"], shown["detections"]) == (2, 3)
    receipt = execute(client, shown["token"])

    assert receipt["images"] == 2
    left = client.get("/gallery/images").json()["items"]
    assert [image["id"] for image in left] == [blue["id"]]


def test_only_detections_are_erased_when_that_is_said_and_the_answer_says_what_remains(client, add):
    both = add(RED, BLUE)
    request = {
        "mode": "preview",
        "query": {"image": 0, "crop": True},
        "min_score": 0.5,
        "erase": "detections",
    }
    shown = client.post(
        "/erasures", files={"image": crop("red")}, data={"request": json.dumps(request)}
    ).json()
    assert (shown["images"], shown["detections"]) == (0, 1)
    assert "still show the person" in shown["remains"]

    receipt = execute(client, shown["token"])

    assert "still show the person" in receipt["remains"]
    left = client.get(f"/gallery/images/{both['id']}").json()["detections"]
    assert len(left) == 1
    assert left[0]["id"] not in shown["matches"][0]["detection_ids"]


@pytest.mark.parametrize(
    "wanted",
    [
        {"external_ids": ["mine", "none"]},
        {"filter": {"camera_id": {"in": ["gate"]}}},
        {"detection_ids": ["the red one"]},
        {"label": "Red"},
    ],
    ids=lambda wanted: next(iter(wanted)),
)
def test_images_are_erased_by_what_names_them(client, add, wanted):
    red = add(RED, metadata='{"external_id": "mine", "camera_id": "gate"}')
    blue = add(BLUE)
    if "detection_ids" in wanted:
        wanted = {"detection_ids": [red["detections"][0]["id"], "det_none"]}
    for image, label in ((red, "Red"), (blue, "Blue")):
        detection = image["detections"][0]["id"]
        labelled = client.put(f"/gallery/detections/{detection}/label", json={"label": label})
        assert labelled.status_code == 200, labelled.text

    shown = preview(client, **wanted)
    assert [match["image_id"] for match in shown["matches"]] == [red["id"]]
    execute(client, shown["token"])

    assert client.get(f"/gallery/images/{red['id']}").status_code == 404
    assert client.get(f"/gallery/images/{blue['id']}").status_code == 200


def test_nothing_is_erased_when_what_was_shown_has_changed(client, add):
    add(RED, metadata='{"camera_id": "gate"}')
    wanted = {"filter": {"camera_id": {"in": ["gate"]}}}
    token = preview(client, **wanted)["token"]
    add(BLUE, metadata='{"camera_id": "gate"}')

    refused = client.post("/erasures", json={"mode": "execute", "token": token})

    assert (refused.status_code, refused.json()["code"]) == (409, "erasure_changed")
    assert len(client.get("/gallery/images").json()["items"]) == 2
    assert client.get("/erasures").json()["items"] == []


def test_a_token_expires(client, add, monkeypatch):
    image = add(RED)
    monkeypatch.setattr(previews, "TOKEN_S", -1)
    token = preview(client, image_ids=[image["id"]])["token"]

    refused = client.post("/erasures", json={"mode": "execute", "token": token})

    assert (refused.status_code, refused.json()["code"]) == (410, "erasure_token")
    assert client.get(f"/gallery/images/{image['id']}").status_code == 200


def test_where_nothing_is_meant_there_is_no_token(client, add):
    add(RED)

    shown = preview(client, image_ids=["img_none"])
    assert (shown["token"], shown["images"], shown["matches"]) == (None, 0, [])


def test_snapshots_that_hold_what_was_erased_are_named_until_they_are_deleted(client, add):
    red = add(RED)
    with_red = snapshot(client)
    client.delete(f"/gallery/images/{add(BLUE)['id']}")
    shown = preview(client, image_ids=[red["id"]])
    assert shown["snapshots"] == [with_red]

    receipt = execute(client, shown["token"])
    snapshot(client)

    assert receipt["snapshots"] == [with_red]
    client.delete(f"/snapshots/{with_red}")
    assert client.get(f"/erasures/{receipt['id']}").json()["snapshots"] == []


@pytest.mark.parametrize(
    "wrong",
    [
        {"mode": "preview"},
        {"mode": "preview", "image_ids": []},
        {"mode": "preview", "image_ids": ["a"], "external_ids": ["b"]},
        {"mode": "preview", "filter": {}},
        {"mode": "preview", "query": {"detection_id": "det_x"}},
        {"mode": "preview", "image_ids": ["a"], "min_score": 0.5},
        {"mode": "preview", "image_ids": ["a"], "erase": "detections"},
        {"mode": "preview", "image_ids": ["a"], "token": "x"},
        {"mode": "execute"},
        {"mode": "execute", "token": "x", "image_ids": ["a"]},
        {"mode": "now", "image_ids": ["a"]},
    ],
)
def test_an_erasure_must_say_one_thing(client, wrong):
    answer = client.post("/erasures", json=wrong)

    assert (answer.status_code, answer.json()["code"]) == (422, "validation_failed")


# The audit trail


def test_the_trail_says_who_did_what(start):
    with start(api_keys=KEYS) as client:
        image = client.post("/gallery/images", files={"image": picture(RED)}, headers=ANNA).json()
        path, detection = f"/gallery/images/{image['id']}", image["detections"][0]["id"]
        client.patch(path, json={"tags": ["hidden"]}, headers=ANNA)
        client.get(f"/gallery/detections/{detection}/embedding", headers=BERT)
        client.get(f"{path}/content", params={"original": True}, headers=BERT)
        client.get(f"{path}/content", headers=BERT)
        job = client.post("/snapshots", headers=BERT).json()["job_id"]
        finished(client, job, headers=BERT)
        later = client.post(
            "/gallery/images",
            params={"wait": False},
            files={"image": picture(BLUE)},
            headers=ANNA,
        ).json()
        finished(client, later["job_id"], headers=ANNA)
        client.delete(path, headers=BERT)

        items = client.get("/audit", headers=BERT).json()["items"]
        told = [(item["key"], item["action"]) for item in reversed(items)]
        assert told == [
            ("anna", "scene_added"),
            ("anna", "scene_changed"),
            ("bert", "embedding_read"),
            ("bert", "original_read"),
            ("bert", "snapshot_begun"),
            ("bert", "snapshot_made"),
            ("anna", "scene_added"),
            ("bert", "scene_removed"),
        ]
        assert "hidden" not in json.dumps(items)
        about = client.get("/audit", params={"subject": image["id"]}, headers=BERT).json()
        assert len(about["items"]) == 4


def test_the_trail_is_walked_by_its_cursor(client, add):
    for seed in range(5):
        add(RED, file_format="PNG", seed=seed)
    walked, cursor = [], None
    while True:
        more = {} if cursor is None else {"cursor": cursor}
        page = client.get("/audit", params={"limit": 2, **more}).json()
        walked += [item["number"] for item in page["items"]]
        cursor = page["next_cursor"]
        if cursor is None:
            break

    assert walked == [5, 4, 3, 2, 1]
    for broken in ("nonsense", "aW1nXzAxTTgyOTVOMjk5S0dITkdUQVdaUEpWSENa"):
        answer = client.get("/audit", params={"cursor": broken})
        assert (answer.status_code, answer.json()["code"]) == (400, "invalid_cursor")


# Retention


def test_images_that_are_too_old_go_at_the_start_and_are_counted(start):
    old = (datetime.now(UTC) - timedelta(days=31)).isoformat()
    with start() as client:
        for camera, seed in (("gate", 1), ("door", 2)):
            about = json.dumps({"camera_id": camera, "captured_at": old})
            client.post(
                "/gallery/images",
                files={"image": picture(RED, file_format="PNG", seed=seed)},
                data={"metadata": about},
            )
        assert client.get("/health").json()["retention"]["on"] is False

    with start(retention_days="gate=30,*=365") as client:
        ends = time.monotonic() + 30
        while client.get("/health").json()["retention"]["swept_at"] is None:
            assert time.monotonic() < ends
            time.sleep(0.02)
        left = client.get("/gallery/images").json()["items"]
        assert [image["camera_id"] for image in left] == ["door"]
        assert client.get("/health").json()["retention"]["expired"] == 1
        assert "person_search_expired_images_total 1.0" in client.get("/metrics").text
        (entry,) = client.get("/audit", params={"action": "scene_removed"}).json()["items"]
        assert entry["key"] == "(retention)"


# The index


@pytest.mark.sqlite
def test_compaction_is_a_job_and_the_index_says_what_it_freed(client, add):
    first = add(RED, BLUE)
    add(GREEN)
    client.delete(f"/gallery/images/{first['id']}")
    before = client.get("/index").json()
    assert (before["rows"], before["gone"], before["compacted_at"]) == (1, 2, None)

    result = finished(client, client.post("/index/compact").json()["job_id"])

    after = client.get("/index").json()
    assert (result["gone"], after["rows"], after["gone"]) == (2, 1, 0)
    assert after["bytes"] < before["bytes"]
    assert after["compacted_at"] is not None
    assert after["index_change"] == after["last_change"]
    hits = client.post("/search", files={"image": crop("green")}).json()["hits"]
    assert len(hits) == 1
