"""Promises about the gallery's images."""

import io
import json

import numpy as np
import pytest
from PIL import Image

from service.tests.stub import crop, picture

RED = ("red", (40, 40, 80, 160))
BLUE = ("blue", (200, 60, 236, 180))


def test_a_new_image_answers_201_with_its_people_and_its_place(client):
    content = picture(RED, BLUE)
    answer = client.post("/gallery/images", files={"image": content})

    assert answer.status_code == 201
    record = answer.json()
    assert answer.headers["location"] == f"/gallery/images/{record['id']}"
    assert record["status"] == "created"
    assert (record["width"], record["height"], record["format"]) == (320, 240, "JPEG")
    assert len(record["detections"]) == 2
    box = record["detections"][0]["box"]
    assert np.allclose([box["x1"], box["y1"], box["x2"], box["y2"]], RED[1], atol=2)
    assert record["index"]["model"] == "stub"
    assert set(record["timings_ms"]) == {"queue", "infer", "decode_and_store"}
    assert client.get(answer.headers["location"]).json()["detections"] == record["detections"]


def test_the_same_bytes_again_answer_200_with_the_stored_record(client, detector):
    content = picture(RED)
    first = client.post("/gallery/images", files={"image": content}).json()
    calls = len(detector.asked)

    again = client.post("/gallery/images", files={"image": content})
    assert again.status_code == 200
    assert (again.json()["status"], again.json()["id"]) == ("duplicate", first["id"])
    assert len(detector.asked) == calls

    refused = client.post(
        "/gallery/images", params={"on_duplicate": "error"}, files={"image": content}
    )
    assert (refused.status_code, refused.json()["code"]) == (409, "duplicate_image")


def test_an_image_without_people_is_stored_with_an_empty_list(client):
    answer = client.post("/gallery/images", files={"image": picture()})

    assert (answer.status_code, answer.json()["detections"]) == (201, [])


def test_many_files_answer_one_entry_each_and_a_bad_one_fails_alone(client):
    files = [("image", picture(RED)), ("image", b"not a picture"), ("image", picture(BLUE))]
    answer = client.post("/gallery/images", files=files)

    assert answer.status_code == 200
    entries = answer.json()["results"]
    assert [entry["status"] for entry in entries] == ["created", "failed", "created"]
    assert entries[1]["problem"]["code"] == "unsupported_image_format"
    assert client.get("/gallery/images").json()["items"][1]["id"] == entries[2]["id"]


def test_when_all_files_fail_the_answer_is_422_with_the_same_list(client):
    answer = client.post("/gallery/images", files=[("image", b"x"), ("image", b"")])

    assert (answer.status_code, answer.json()["code"]) == (422, "all_items_failed")
    codes = [entry["problem"]["code"] for entry in answer.json()["results"]]
    assert codes == ["unsupported_image_format", "image_corrupt"]


def test_metadata_is_stored_and_filters_the_list(client, add):
    about = {
        "external_id": "cam3/000123.jpg",
        "camera_id": "cam3",
        "captured_at": "2026-11-20T09:15:00+01:00",
        "tags": ["lobby"],
        "attributes": {"floor": "2"},
    }
    first = add(RED, metadata=json.dumps(about))
    add(BLUE)

    assert first["captured_at"] == "2026-11-20T08:15:00Z"
    for parameters in (
        {"camera_id": "cam3"},
        {"tag": "lobby"},
        {"external_id": "cam3/000123.jpg"},
        {"captured_after": "2026-11-20T08:15:00Z"},
        {"captured_before": "2026-11-20T08:15:01Z"},
    ):
        page = client.get("/gallery/images", params=parameters | {"count": True}).json()
        assert [item["id"] for item in page["items"]] == [first["id"]], parameters
        assert page["total"] == 1
    assert client.get("/gallery/images", params={"camera": "cam3"}).status_code == 422


def test_one_metadata_entry_is_needed_for_each_file(client):
    files = [("image", picture(RED)), ("image", picture(BLUE))]
    listed = json.dumps([{"camera_id": "a"}, {"camera_id": "b"}])

    answer = client.post("/gallery/images", files=files, data={"metadata": listed})
    assert [entry["camera_id"] for entry in answer.json()["results"]] == ["a", "b"]
    answer = client.post("/gallery/images", files=files, data={"metadata": "{}"})
    assert (answer.status_code, answer.json()["code"]) == (422, "validation_failed")


def test_an_external_id_names_only_one_image(client, add):
    add(RED, metadata='{"external_id": "a"}')
    answer = client.post(
        "/gallery/images", files={"image": picture(BLUE)}, data={"metadata": '{"external_id":"a"}'}
    )

    assert (answer.status_code, answer.json()["code"]) == (409, "external_id_conflict")


def test_a_list_is_walked_by_its_cursor_without_gaps(client, add):
    ids = [add(RED, file_format="PNG", seed=number)["id"] for number in range(5)]
    walked, cursor = [], None
    while True:
        page = client.get(
            "/gallery/images", params={"limit": 2} | ({"cursor": cursor} if cursor else {})
        ).json()
        walked += [item["id"] for item in page["items"]]
        cursor = page["next_cursor"]
        if cursor is None:
            break

    assert walked == ids
    broken = client.get("/gallery/images", params={"cursor": "nonsense"})
    assert (broken.status_code, broken.json()["code"]) == (400, "invalid_cursor")


def test_a_patch_changes_what_it_names_and_guards_against_others(client, add):
    image = add(RED, metadata='{"camera_id": "a", "tags": ["x"], "attributes": {"k": "1"}}')
    path = f"/gallery/images/{image['id']}"
    tag = client.get(path).headers["etag"]
    changed = client.patch(
        path, json={"camera_id": "b", "attributes": {"l": "2"}}, headers={"If-Match": tag}
    )

    assert changed.status_code == 200
    assert changed.json()["camera_id"] == "b"
    assert changed.json()["tags"] == ["x"]
    assert changed.json()["attributes"] == {"file": "scene.jpg", "k": "1", "l": "2"}
    assert changed.headers["etag"] != tag
    late = client.patch(path, json={"camera_id": "c"}, headers={"If-Match": tag})
    assert (late.status_code, late.json()["code"]) == (412, "precondition_failed")
    removed = client.patch(path, json={"camera_id": None, "attributes": {"k": None}})
    assert (removed.json()["camera_id"], removed.json()["attributes"]) == (
        None,
        {"file": "scene.jpg", "l": "2"},
    )
    found = client.get("/gallery/images", params={"camera_id": "b"}).json()["items"]
    assert found == []


def test_a_deleted_image_is_gone_everywhere(client, add):
    image = add(RED)
    detection = image["detections"][0]["id"]

    assert client.delete(f"/gallery/images/{image['id']}").status_code == 204
    for path in (
        f"/gallery/images/{image['id']}",
        f"/gallery/images/{image['id']}/content",
        f"/gallery/detections/{detection}",
        f"/gallery/detections/{detection}/crop",
    ):
        assert client.get(path).status_code == 404, path
    assert client.delete(f"/gallery/images/{image['id']}").status_code == 404


def test_many_images_are_deleted_by_their_ids(client, add):
    ids = [add(RED)["id"], add(BLUE)["id"], "img_none"]

    answer = client.post("/gallery/images:delete", json={"ids": ids})
    assert answer.json() == {"deleted": 2}
    assert client.get("/gallery/images").json()["items"] == []
    assert client.post("/gallery/images:delete", json={"ids": []}).status_code == 422


def test_a_deleted_detection_leaves_its_image(client, add):
    image = add(RED, BLUE)
    first, second = image["detections"]

    assert client.delete(f"/gallery/detections/{first['id']}").status_code == 204
    left = client.get(f"/gallery/images/{image['id']}").json()["detections"]
    assert left == [second]


def test_a_picture_is_served_upright_and_without_metadata(client):
    turned = Image.open(io.BytesIO(picture(RED))).transpose(Image.Transpose.ROTATE_90)
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90° clockwise to see it upright
    exif[0x010F] = "a camera's name"
    buffer = io.BytesIO()
    turned.save(buffer, "JPEG", exif=exif, quality=95)
    record = client.post("/gallery/images", files={"image": buffer.getvalue()}).json()

    assert (record["width"], record["height"], record["orientation_applied"]) == (320, 240, 6)
    box = record["detections"][0]["box"]
    assert np.allclose([box["x1"], box["y1"], box["x2"], box["y2"]], RED[1], atol=2)
    answer = client.get(f"/gallery/images/{record['id']}/content")
    served = Image.open(io.BytesIO(answer.content))
    assert (served.size, dict(served.getexif())) == ((320, 240), {})
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "sandbox" in answer.headers["content-security-policy"]
    original = client.get(f"/gallery/images/{record['id']}/content", params={"original": True})
    assert original.content == buffer.getvalue()


@pytest.mark.parametrize("size", [128, 256, 512, 1024])
def test_a_thumbnail_fits_into_its_size(client, add, size):
    image = add(RED, size=(640, 480))

    answer = client.get(f"/gallery/images/{image['id']}/thumbnail", params={"size": size})
    assert max(Image.open(io.BytesIO(answer.content)).size) == min(size, 640)


def test_thumbnails_come_only_in_listed_sizes(client, add):
    image = add(RED)

    answer = client.get(f"/gallery/images/{image['id']}/thumbnail", params={"size": 300})
    assert (answer.status_code, answer.json()["code"]) == (422, "validation_failed")


def test_a_crop_shows_what_is_in_the_box(client, add):
    detection = add(RED)["detections"][0]["id"]

    answer = client.get(f"/gallery/detections/{detection}/crop")
    pixels = np.asarray(Image.open(io.BytesIO(answer.content)))
    assert np.allclose(pixels.shape[:2], (120, 40), atol=2)
    assert np.allclose(pixels.mean(axis=(0, 1)), (250, 20, 20), atol=12)


def test_a_stored_embedding_has_unit_length(client, add):
    detection = add(RED)["detections"][0]["id"]

    answer = client.get(f"/gallery/detections/{detection}/embedding").json()
    assert np.linalg.norm(answer["embedding"]) == pytest.approx(1, abs=1e-5)
    assert answer["model"] == "stub"


def test_an_image_remembers_its_file_s_name_unless_the_sender_says_another(client, add):
    named = client.post("/gallery/images", files={"image": ("Gate 3/äh.jpg", crop("red"))}).json()
    told = add(BLUE, metadata='{"attributes": {"file": "mine"}}')

    assert named["attributes"]["file"].endswith("äh.jpg")
    assert told["attributes"] == {"file": "mine"}
