"""Promises about the page, in a real browser: the gallery, the model, keys, access for everyone."""

import json
import re
import time
from contextlib import closing

import pytest

from service.demo.browser import serious_findings
from service.demo.local import Client
from service.demo.page_pictures import BEGINNING, SCENES
from service.settings import SCOPES
from service.tests.serving import scene
from service.tests.stub import OtherStub, picture

expect = pytest.importorskip("playwright.sync_api").expect

pytestmark = pytest.mark.slow
SECRETS = {scope: f"{scope}-secret-0123456789" for scope in SCOPES}
KEYS = ",".join(f"{scope}er:{scope}:{secret}" for scope, secret in SECRETS.items())
REFUSED = ["Failed to load resource"]  # how the browser tells of a status above 399
HOSTILE = {
    "script": "<script>document.title='taken'</script><img src=x onerror=document.title=1>.png",
    "quotes": "\"'`&quot;&lt; onmouseover=document.title='taken' x=\".png",
    "right to left": "\u202eشخص في المحطة\u202c‏.png",
    "emoji": "👩‍👩‍👧‍👦🏳️‍🌈 " + "w" * 180 + ".png",
}


def red(seed=0):
    return picture(("red", (20, 10, 60, 110)), ("blue", (100, 10, 140, 110)),
                   size=(160, 120), file_format="PNG", seed=seed)  # fmt: skip


def at(port):
    return f"http://127.0.0.1:{port}"


def upload(page, *files):
    """Files as (name, bytes), through the page."""
    payload = [{"name": name, "mimeType": "image/png", "buffer": data} for name, data in files]
    page.locator(".adding input[type=file]").first.set_input_files(payload)


def fill_gallery(port, count, headers=None):
    with closing(Client(at(port))) as client:
        if headers:
            client._headers = headers
        return [
            client.post("/gallery/images", [red(seed)], {"metadata": {"camera_id": f"c{seed % 2}"}})
            for seed in range(count)
        ]


def test_from_an_empty_gallery_to_a_scene_with_its_people(visit, live):
    with live() as port:
        page = visit(at(port), expected=REFUSED)
        expect(page.get_by_text("The gallery is empty")).to_be_visible()
        page.get_by_role("link", name="Add scenes").click()
        page.get_by_label("Camera", exact=False).first.fill("gate <1>")
        page.get_by_label("Tags").first.fill("night, rain")
        upload(page, ("one.png", red(1)), ("two.png", red(2)), ("two again.png", red(2)),
               ("torn.png", red(3)[:300]))  # fmt: skip
        expect(page.locator("#uploaded")).to_have_text(
            "4 of 4 pictures, 2 added, 1 there already, 1 failed"
        )
        failed = page.locator(".uploads .failed")
        expect(failed).to_contain_text("torn.png")
        expect(failed).to_contain_text("Image")
        expect(page.locator("#count")).to_have_text("2 scenes, 4 people")
        page.locator(".tile-open").first.click()
        dialog = page.get_by_role("dialog")
        expect(dialog.locator(".facts")).to_contain_text("gate <1>")
        expect(dialog.locator(".facts")).to_contain_text("rain")
        expect(dialog.locator(".people li")).to_have_count(2)
        dialog.get_by_text("Label", exact=True).first.click()
        dialog.get_by_label("Label").first.fill("Anna")
        dialog.get_by_role("button", name="Save label").first.click()
        expect(dialog.get_by_text("Saved.")).to_be_visible()
        page.keyboard.press("Escape")
        with closing(Client(at(port))) as client:
            assert client.get("/gallery")["labelled"] == 1


def test_a_failed_file_can_be_tried_again(live, visit):
    with live() as port:
        page = visit(at(port), "#/gallery?add=1", expected=REFUSED)
        page.route("**/gallery/images", lambda route: route.fulfill(
            status=507, content_type="application/problem+json",
            body=json.dumps({"title": "Disk is full", "detail": "No.", "status": 507,
                             "code": "insufficient_storage", "retryable": True})))  # fmt: skip
        upload(page, ("one.png", red()))
        expect(page.locator(".uploads .failed")).to_contain_text("Disk is full")
        page.unroute("**/gallery/images")
        page.get_by_role("button", name="Try one.png again").click()

        expect(page.locator("#uploaded")).to_have_text("1 of 1 picture, 1 added")


def test_a_deleted_scene_goes_after_a_confirmation_that_says_what_goes(live, visit):
    with live() as port:
        fill_gallery(port, 3)
        page = visit(at(port), "#/gallery")
        page.locator(".tile-open").first.click()
        page.get_by_role("button", name="Delete this scene …").click()
        asked = page.get_by_role("dialog").filter(has_text="Delete this scene?")
        expect(asked).to_contain_text("Its picture goes, and 2 people")
        asked.get_by_role("button", name="Cancel").click()
        with closing(Client(at(port))) as client:
            assert client.get("/gallery")["images"] == 3
            page.get_by_role("button", name="Delete this scene …").click()
            asked.get_by_role("button", name="Delete this scene").click()
            expect(page.locator(".tile")).to_have_count(2)
            assert client.get("/gallery")["images"] == 2
            page.get_by_role("button", name="Select").click()
            page.locator(".tile-open").nth(0).click()
            page.locator(".tile-open").nth(1).click()
            page.get_by_role("button", name="Delete 2 scenes …").click()
            page.get_by_role("dialog").get_by_role("button", name="Delete 2 scenes").click()
            expect(page.get_by_text("The gallery is empty")).to_be_visible()
            assert client.get("/gallery")["images"] == 0


def test_hostile_names_are_only_words(live, visit):
    with live() as port:
        page = visit(at(port), "#/gallery?add=1")
        for number, name in enumerate(HOSTILE.values(), 1):
            page.evaluate("() => { location.hash = '#/gallery?add=1' }")
            page.locator(".adding input").nth(2).fill(name[:255])
            page.get_by_label("Tags").first.fill(name.replace(",", "")[:64])
            upload(page, (name.replace("/", "_"), red(number)))
            expect(page.locator("#uploaded")).to_have_text("1 of 1 picture, 1 added")
            expect(page.locator(".tile-open")).to_have_count(number)
            check_name(page, name)


def check_name(page, name):
    """The newest scene, and one of its people, is called so everywhere, and nothing else."""
    page.locator(".tile-open").first.click()
    dialog = page.get_by_role("dialog")
    expect(dialog.locator(".facts")).to_contain_text(name[:40])
    dialog.get_by_text("Label", exact=True).first.click()
    dialog.get_by_label("Label").first.fill(name)
    dialog.get_by_role("button", name="Save label").first.click()
    expect(dialog.get_by_text("Saved.")).to_be_visible()
    dialog.get_by_role("button", name="Search for person 1").click()
    expect(page).to_have_url(re.compile("person=det_"))
    page.locator("summary", has_text="Cameras").click()
    expect(page.locator(".choices").first).to_contain_text(name[:40])

    assert page.title().endswith("Person search")
    assert page.locator("main script, main img[onerror]").count() == 0
    assert page.evaluate("() => document.documentElement.scrollWidth <= innerWidth")


def test_scenes_are_browsed_by_camera_and_by_keys(live, visit):
    with live() as port:
        fill_gallery(port, 9)
        page = visit(at(port), "#/gallery")
        expect(page.locator(".tile-open")).to_have_count(9)
        page.locator("summary", has_text="Camera, time, tags").click()
        page.locator("summary", has_text="Cameras").click()
        page.get_by_role("checkbox", name="c1").check()
        expect(page.locator(".tile-open")).to_have_count(4)
        expect(page).to_have_url(re.compile("camera=c1"))
        page.locator(".tile-open").first.focus()
        page.keyboard.press("ArrowRight")
        page.keyboard.press("Enter")
        expect(page.get_by_role("dialog")).to_be_visible()
        page.keyboard.press("Escape")
        assert page.evaluate("() => document.activeElement.className") == "tile-open"


def test_of_many_scenes_only_what_is_seen_is_there(live, visit):
    with live() as port:
        with closing(Client(at(port))) as client:
            for start in range(0, 256, 32):
                client.post("/gallery/images", [scene(start + n, people=1) for n in range(32)])
        page = visit(at(port), "#/gallery")
        page.locator(".tile-open").first.wait_for()
        assert page.locator(".tile").count() < 100
        page.evaluate("() => scrollTo(0, document.body.scrollHeight)")

        last = page.locator('.tile[aria-posinset="256"] .tile-open')
        last.wait_for()
        assert page.locator(".tile").count() < 100
        last.click()
        expect(page.get_by_role("dialog")).to_be_visible()


def test_a_job_is_shown_while_it_runs_and_can_be_cancelled(live, visit, detector):
    with live() as port, closing(Client(at(port))) as client:
        detector.go.clear()
        job = client.post("/gallery/images?wait=false", [red(n) for n in range(6)])
        page = visit(at(port), "#/gallery")
        row = page.locator(".jobs > li")
        expect(row).to_contain_text("Adding uploaded images")
        row.get_by_role("button", name="Cancel").click()
        expect(row).to_contain_text("being cancelled")
        detector.go.set()
        expect(row.locator(".state.cancelled")).to_be_visible()
        assert client.get(f"/jobs/{job['job_id']}")["state"] == "cancelled"


def test_a_wrong_key_is_told_of_and_a_right_one_lasts_for_the_tab(live, visit):
    with live(api_keys=KEYS) as port:
        fill_gallery(port, 2, {"Authorization": f"Bearer {SECRETS['admin']}"})
        page = visit(at(port), expected=REFUSED)
        page.get_by_label("API key").fill("no-such-secret-0123456789")
        page.keyboard.press("Enter")
        expect(page.get_by_role("alert").filter(has_text="does not know this key")).to_be_visible()
        page.get_by_label("API key").fill(SECRETS["admin"])
        page.keyboard.press("Enter")
        page.locator(".pick-tile img[src^='blob:']").first.wait_for()
        page.reload()
        page.locator(".pick-tile img[src^='blob:']").first.wait_for()
        assert page.evaluate("() => localStorage.length + document.cookie.length") == 0
        assert SECRETS["admin"] not in page.url + page.content()
        other = page.context.new_page()
        other.goto(at(port))
        expect(other.get_by_label("API key")).to_be_visible()
        page.get_by_role("button", name="Sign out").click()
        expect(page.get_by_label("API key")).to_be_visible()
        assert page.evaluate("() => sessionStorage.length") == 0


@pytest.mark.parametrize("scope", ["search", "ingest", "metrics"])
def test_what_the_key_forbids_is_not_offered(live, visit, scope):
    with live(api_keys=KEYS) as port:
        fill_gallery(port, 2, {"Authorization": f"Bearer {SECRETS['admin']}"})
        page = visit(at(port), "#/gallery")
        page.get_by_label("API key").fill(SECRETS[scope])
        page.get_by_role("button", name="Sign in").click()
        expect(page.locator("#key")).to_contain_text(f"{scope}er")
        if scope == "metrics":
            expect(page.get_by_text("Your key does not allow this")).to_be_visible()
            return
        if scope == "ingest":
            expect(page.get_by_role("button", name="Add scenes")).to_be_visible()
            expect(page.get_by_text("not view them")).to_be_visible()
            return
        page.locator(".tile-open").first.click()
        page.locator("dialog .people li").first.wait_for()
        for forbidden in ("Add scenes", "Select", "Delete this scene …", "Save label"):
            expect(page.get_by_role("button", name=forbidden)).to_have_count(0)
        expect(page.locator(".jobs-box")).to_have_count(0)
        page.keyboard.press("Escape")
        page.get_by_role("link", name="Model").click()
        expect(page.get_by_text("needs a key with the scope admin")).to_be_visible()
        expect(page.locator(".model-list button, .halves button")).to_have_count(0)


def test_the_model_is_changed_and_changed_back_with_its_progress(live, visit):
    with live(others=[OtherStub(0.2)]) as port:
        fill_gallery(port, 6)
        page = visit(at(port), "#/model")
        expect(page.locator(".answering h2")).to_have_text("stub")
        page.locator(".model-list li", has_text="other").get_by_role("button").click()
        page.get_by_role("dialog").get_by_role("button", name="Begin").click()
        expect(page.locator(".jobs .state.running").first).to_be_visible()
        expect(page.locator(".answering h2")).to_have_text("other", timeout=20_000)
        page.get_by_role("button", name="Go back to it").click()
        page.get_by_role("dialog").get_by_role("button", name="Let it answer").click()
        expect(page.locator(".answering h2")).to_have_text("stub", timeout=20_000)


def test_labels_are_measured(live, visit):
    with live() as port:
        records = fill_gallery(port, 3)
        with closing(Client(at(port))) as client:
            for record in records:
                for name, person in zip(("anna", "ben"), record["detections"], strict=True):
                    client._answer("PUT", f"/gallery/detections/{person['id']}/label",
                                   json.dumps({"label": name}).encode(),
                                   {"Content-Type": "application/json"})  # fmt: skip
        page = visit(at(port), "#/model", expected=REFUSED)
        expect(page.get_by_text("6 people have one of 2 labels.")).to_be_visible()

        def told_only_once_it_ended(route):
            answer = route.fetch()
            with closing(Client(at(port))) as client:
                while client.get(answer.headers["location"])["state"] != "succeeded":
                    time.sleep(0.05)
            route.fulfill(response=answer)

        page.route("**/evaluations", told_only_once_it_ended)
        page.get_by_role("button", name="Evaluate on the labels").click()
        expect(page.locator(".halves table")).to_contain_text("mAP", timeout=15_000)
        page.get_by_role("button", name="Calibrate on the labels").click()
        expect(
            page.get_by_role("alert").filter(has_text="Too few labels for this rate")
        ).to_be_visible()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_view_is_fit_for_everyone(site, visit, scheme):
    base_url, records = site
    page = visit(base_url, color_scheme=scheme, reduced_motion="reduce")
    person = records[0]["detections"][0]["id"]
    found = {}

    def look(name):
        found[name] = serious_findings(page)

    page.locator(".pick-tile img[src]").first.wait_for()
    look("begin")
    page.locator(".drop input[type=file]").set_input_files(SCENES / "c1_000009.jpg")
    page.locator(".query .person").first.wait_for()
    look("choose")
    page.evaluate("address => { location.hash = address }", f"#/search?person={person}")
    page.locator(".hit img.scene[src]").first.wait_for()
    look("results")
    page.locator(".hit-open").first.click()
    page.locator("dialog .facts dd").first.wait_for()
    look("hit")
    page.keyboard.press("Escape")
    page.evaluate("address => { location.hash = address }", f"#/search?person={person}&min=0.99")
    page.get_by_text("Nobody was found").first.wait_for()
    look("nobody")
    page.evaluate("() => { location.hash = '#/gallery?add=1' }")
    page.locator(".tile img[src]").first.wait_for()
    page.locator("summary", has_text="Camera, time, tags").click()
    look("gallery")
    page.locator(".tile-open").first.click()
    page.locator("dialog .people li").first.wait_for()
    look("scene")
    page.get_by_role("button", name="Delete this scene …").click()
    look("delete")
    page.get_by_role("button", name="Cancel").click()
    page.keyboard.press("Escape")
    page.evaluate("() => { location.hash = '#/model' }")
    page.get_by_text("How good it is").wait_for()
    look("model")

    assert found == {name: [] for name in found}


def test_signing_in_and_problems_are_fit_for_everyone(live, visit):
    with live(api_keys=KEYS) as port:
        for scheme in ("light", "dark"):
            page = visit(at(port), expected=REFUSED, color_scheme=scheme)
            page.get_by_label("API key").fill("no-such-secret-0123456789")
            page.keyboard.press("Enter")
            page.get_by_role("alert").filter(has_text="does not know").wait_for()
            assert serious_findings(page) == []


def test_nothing_is_asked_of_another_host_and_nothing_inline_runs(site, visit):
    page = visit(site[0])
    page.locator(".pick-tile img[src]").first.wait_for()
    hosts = page.evaluate(
        "() => performance.getEntriesByType('resource').map((one) => new URL(one.name).origin)"
    )

    assert set(hosts) <= {site[0], "null"}
    policy = page.request.get(site[0] + "/").headers["content-security-policy"]
    assert "unsafe" not in policy
    assert "default-src 'none'" in policy
    assert page.locator("[style]:not(main *), script:not([src])").count() == 0


def test_the_gallery_is_counted_by_camera_and_tag(client, add):
    add(("red", (10, 10, 40, 90)), metadata=json.dumps({"camera_id": "gate", "tags": ["a", "b"],
        "captured_at": BEGINNING.isoformat()}))  # fmt: skip
    add(("blue", (10, 10, 40, 90)), metadata=json.dumps({"tags": ["b"]}), seed=1)

    told = client.get("/gallery").json()
    assert (told["images"], told["detections"], told["labelled"]) == (2, 2, 0)
    assert [(one["camera_id"], one["images"]) for one in told["cameras"]] == [
        (None, 1),
        ("gate", 1),
    ]
    assert told["cameras"][1]["first_captured_at"] == "2026-11-20T08:00:00Z"
    assert told["tags"] == [{"tag": "b", "images": 2}, {"tag": "a", "images": 1}]


def test_the_newest_images_come_first_when_asked_for(client, add):
    ids = [add(("red", (10, 10, 40, 90)), seed=seed, file_format="PNG")["id"] for seed in range(5)]
    listed, cursor = [], None
    while True:
        asked = {"order": "newest", "limit": 2} | ({"cursor": cursor} if cursor else {})
        page = client.get("/gallery/images", params=asked).json()
        listed += [one["id"] for one in page["items"]]
        cursor = page["next_cursor"]
        if cursor is None:
            break

    assert listed == ids[::-1]


def test_a_caller_learns_its_scopes(start, client, tmp_path):
    assert client.get("/whoami").json() == {"keys": False, "name": None, "scopes": list(SCOPES)}
    with start(data_dir=tmp_path / "keys", api_keys=KEYS) as keyed:
        ask = keyed.get("/whoami")
        assert ask.json() == {"keys": True, "name": None, "scopes": []}
        for scope, secret in SECRETS.items():
            told = keyed.get("/whoami", headers={"Authorization": f"Bearer {secret}"}).json()
            allowed = list(SCOPES) if scope == "admin" else [scope]
            assert told == {"keys": True, "name": f"{scope}er", "scopes": allowed}
        wrong = keyed.get("/whoami", headers={"Authorization": "Bearer " + "x" * 20})
        assert wrong.json() == ask.json()
