"""Promises about the page, in a real browser, with the model that ships: searching."""

import re
from contextlib import closing
from pathlib import Path

import pytest
from PIL import Image

from service.demo.local import Client
from service.demo.page_pictures import SCENES
from service.tests.stub import picture

expect = pytest.importorskip("playwright.sync_api").expect

pytestmark = pytest.mark.slow
SCENE = SCENES / "c1_000000.jpg"
CHEQUERED = {"x1": 46, "y1": 304, "x2": 145, "y2": 528}  # the person who is in most scenes


def choose(page, path=SCENE):
    page.locator(".drop input[type=file]").first.set_input_files(path)
    page.locator(".query .person").first.wait_for()


def draw(page, box, size=(768, 576)):
    """Draw a box in the query's picture with the mouse."""
    layer = page.locator(".query .layer")
    layer.scroll_into_view_if_needed()
    seen = layer.bounding_box()

    def at(x, y):
        return (
            seen["x"] + x / size[0] * seen["width"],
            seen["y"] + y / size[1] * seen["height"],
        )

    page.mouse.move(*at(box["x1"], box["y1"]))
    page.mouse.down()
    page.mouse.move(*at(box["x1"] + 20, box["y1"] + 20))
    page.mouse.move(*at(box["x2"], box["y2"]))
    page.mouse.up()


def hits(page):
    page.locator(".hits .hit").first.wait_for()
    expect(page.locator(".results.old")).to_have_count(0)
    return page.locator(".hits .hit")


def detection_at(records, file, box):
    """The id of the stored detection nearest to a box of a scene."""
    record = next(one for one in records if one["attributes"]["file"] == file)
    return min(
        record["detections"],
        key=lambda one: sum(abs(one["box"][side] - box[side]) for side in box),
    )


def tallest(records):
    people = [person for record in records for person in record["detections"]]
    return max(people, key=lambda one: one["box"]["y2"] - one["box"]["y1"])


def test_a_drawn_box_finds_the_person_in_other_scenes(site, visit):
    page = visit(site[0])
    choose(page)
    with page.expect_response(lambda answer: answer.url.endswith("/search")) as asked:
        draw(page, CHEQUERED)

    found = asked.value.json()
    cards = hits(page)
    assert cards.count() == len(found["hits"])
    assert found["query"][0]["box"] == pytest.approx(CHEQUERED, abs=2)
    best, first = found["hits"][0], cards.first
    assert best["likely_match"] is True
    expect(first).to_contain_text("Likely match")
    expect(first).to_contain_text(f"{best['similarity']:.3f}")
    expect(first).to_contain_text(f"{best['detection']['detection_score']:.3f}")
    expect(first).to_contain_text(best["image"]["camera_id"])
    expect(first.locator("time")).to_have_attribute("datetime", best["image"]["captured_at"])
    for shown in ("img.scene", "img.crop"):
        expect(first.locator(shown)).to_have_attribute("src", re.compile("^blob:"))


def test_the_outline_lies_where_the_person_is(site, visit):
    base_url, records = site
    person = tallest(records)
    page = visit(base_url, f"#/search?person={person['id']}")
    hits(page)  # the first search is answered: the answer read is that of the second
    with page.expect_response(lambda answer: answer.url.endswith("/search")) as asked:
        page.reload()
    best = asked.value.json()["hits"][0]
    card = hits(page).first
    card.locator("img.scene[src]").wait_for()
    frame, outline = (card.locator(one).bounding_box() for one in (".frame", ".outline"))

    width, height = best["image"]["width"], best["image"]["height"]
    assert frame["width"] / frame["height"] == pytest.approx(width / height, rel=0.02)
    x = (outline["x"] - frame["x"]) / frame["width"] * width
    y = (outline["y"] - frame["y"]) / frame["height"] * height
    assert x == pytest.approx(best["detection"]["box"]["x1"], abs=6)
    assert y == pytest.approx(best["detection"]["box"]["y1"], abs=6)


def test_an_outlined_person_is_chosen_by_a_click_and_searched_again_from(site, visit):
    page = visit(site[0])
    choose(page)
    page.locator(".query .person").first.click()
    first = hits(page).first
    expect(first.locator(".name")).to_contain_text(".jpg")
    name = first.locator(".name").text_content()
    first.get_by_role("button", name="Search again from this one").click()

    expect(page).to_have_url(re.compile(r"#/search\?person=det_"))
    hits(page)
    expect(page.locator(".stage-box .name")).to_have_text(name)
    expect(page.locator(".query .person.chosen")).to_have_count(1)


def test_filters_leave_out_what_does_not_pass_them(site, visit):
    base_url, records = site
    page = visit(base_url, f"#/search?person={tallest(records)['id']}")
    everywhere = hits(page).count()
    page.locator(".pick summary", has_text="Cameras").click()
    page.get_by_role("checkbox", name="arcade").check()
    expect(page).to_have_url(re.compile("camera=arcade"))
    cameras = page.locator(".hits .where > span:first-child")
    expect(cameras).to_have_text(["arcade"] * 5)  # of six, one shows nobody
    assert everywhere > 5

    page.get_by_label("Show").select_option("detection")
    expect(page).to_have_url(re.compile("per=detection"))
    expect(cameras.nth(4)).to_have_text("arcade")
    page.get_by_label("From", exact=True).fill("2026-11-20T10:10")
    expect(page.locator(".hits time").first).to_have_attribute(
        "datetime", re.compile("2026-11-20T10:[12]")
    )
    page.get_by_role("button", name="Clear filters").click()
    expect(page.locator(".hits .hit")).to_have_count(everywhere)


def test_the_address_opens_the_same_search_again(site, visit):
    base_url, records = site
    record = next(one for one in records if one["attributes"]["file"] == SCENE.name)
    page = visit(base_url, f"#/search?person={record['detections'][0]['id']}")
    hits(page)
    draw(page, CHEQUERED)
    expect(page).to_have_url(re.compile("box=img_"))
    page.get_by_label("Show").select_option("detection")
    expect(page).to_have_url(re.compile("per=detection"))
    shown = [card.inner_text() for card in hits(page).all()]
    other = visit(page.url.split("/#")[0], "#" + page.url.split("#")[1])

    expect(other.locator(".hits .hit")).to_have_count(len(shown))
    hits(other)
    other.wait_for_load_state("networkidle")
    page.wait_for_load_state("networkidle")
    assert [card.inner_text() for card in other.locator(".hit").all()] == [
        card.inner_text() for card in page.locator(".hit").all()
    ]


def test_several_pictures_of_one_person_are_asked_at_once(site, visit):
    base_url, records = site
    page = visit(base_url, f"#/search?person={tallest(records)['id']}")
    hits(page).first.locator(".hit-open").click()
    with page.expect_request(lambda request: request.url.endswith("/search")) as asked:
        page.get_by_role("button", name="Add to the query").click()

    assert len(asked.value.post_data_json["queries"]) == 2
    expect(page.locator(".chip")).to_have_count(2)
    with page.expect_request(lambda request: request.url.endswith("/search")) as asked:
        page.get_by_label("Several pictures").select_option("mean")
    assert asked.value.post_data_json["fusion"] == "mean"
    hits(page)
    with page.expect_request(lambda request: request.url.endswith("/search")) as asked:
        page.get_by_role("button", name="Remove query 1").click()
    assert len(asked.value.post_data_json["queries"]) == 1


def test_a_hit_shows_both_parts_of_its_score(site, visit):
    base_url, records = site
    page = visit(base_url, f"#/search?person={tallest(records)['id']}")
    hits(page).first.locator(".hit-open").click()
    dialog = page.get_by_role("dialog")

    norm, angle = (float(text) for text in dialog.locator(".figure").all_inner_texts())
    told = re.search(
        r"Score (0\.\d+) = ([01]\.\d+) × (0\.\d+)", dialog.locator(".sum").inner_text()
    )
    assert [float(one) for one in told.groups()[1:]] == [norm, angle]
    assert float(told[1]) == pytest.approx(norm * angle, abs=0.002)
    expect(dialog.locator(".versus img[src]")).to_have_count(2)
    page.keyboard.press("ArrowRight")
    expect(dialog.locator("h2")).to_contain_text("Hit 2")
    page.keyboard.press("Escape")
    expect(dialog).to_have_count(0)


def test_everything_is_done_by_keys(site, visit):
    page = visit(site[0])
    page.locator(".pick-tile img[src]").first.wait_for()
    page.locator(".pick-tile").first.focus()
    page.keyboard.press("ArrowRight")  # which shows nobody
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    page.locator(".query .person").first.wait_for()
    focused = "() => document.activeElement.className"
    for _ in range(12):
        page.keyboard.press("Tab")
        if "person" in page.evaluate(focused):
            break
    page.keyboard.press("ArrowRight")
    assert "person" in page.evaluate(focused)
    page.keyboard.press("Enter")
    hits(page)
    for _ in range(40):
        page.keyboard.press("Tab")
        if page.evaluate(focused) == "hit-open":
            break
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    expect(page.get_by_role("dialog").locator("h2")).to_contain_text("Hit 2")
    page.keyboard.press("Escape")
    assert page.evaluate(focused) == "hit-open"
    expect(page.get_by_role("dialog")).to_have_count(0)
    page.keyboard.press("Escape")
    expect(page.locator(".drop")).to_be_visible()


def test_a_box_is_drawn_by_keys(site, visit):
    page = visit(site[0])
    choose(page)
    page.get_by_role("button", name="Draw a box").focus()
    page.keyboard.press("Enter")
    expect(page.locator(".drawn")).to_be_focused()
    before = page.locator(".drawn").bounding_box()
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("Shift+ArrowDown")
    after = page.locator(".drawn").bounding_box()
    assert after["x"] < before["x"]
    assert after["height"] > before["height"]
    with page.expect_request(lambda request: request.url.endswith("/search")):
        page.keyboard.press("Enter")

    assert hits(page).count() > 0


def test_a_crop_is_searched_at_once(site, visit, tmp_path):
    crop = tmp_path / "crop.png"
    with Image.open(SCENE) as scene:
        scene.crop(tuple(CHEQUERED.values())).save(crop)
    page = visit(site[0])
    with page.expect_response(lambda answer: answer.url.endswith("/search")) as asked:
        page.locator(".drop input[type=file]").set_input_files(crop)

    assert asked.value.json()["query"][0]["box"] is None
    assert hits(page).count() > 5
    expect(page.get_by_text("no link to share")).to_be_visible()


def test_a_picture_is_dropped_onto_the_page(site, visit):
    page = visit(site[0])
    page.locator(".drop").wait_for()
    dropped = page.evaluate_handle(
        """(bytes) => {
          const data = new DataTransfer();
          const picture = new File([new Uint8Array(bytes)], "dropped.jpg", {type: "image/jpeg"});
          data.items.add(picture);
          return data;
        }""",
        list(SCENE.read_bytes()),
    )
    page.dispatch_event("main", "drop", {"dataTransfer": dropped})

    expect(page.locator(".stage-box .name")).to_have_text("dropped.jpg")
    page.locator(".query .person").first.wait_for()


def test_where_nobody_is_the_page_says_what_to_do(site, visit, tmp_path):
    meadow = tmp_path / "meadow.png"
    Image.new("RGB", (400, 300), (90, 140, 60)).save(meadow)
    page = visit(site[0])
    page.locator(".drop input[type=file]").set_input_files(meadow)

    expect(page.locator(".stage-box")).to_contain_text("Nobody was found here. Draw a box")


def test_a_broken_picture_is_told_of_in_the_services_words(site, visit, tmp_path):
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(SCENE.read_bytes()[:2000])
    page = visit(site[0], expected=["Failed to load resource"])
    page.locator(".drop input[type=file]").set_input_files(broken)

    problem = page.get_by_role("alert").filter(has_text="Image")
    expect(problem).to_contain_text("Image ends too early")
    expect(problem.get_by_role("link", name="What this means")).to_have_attribute(
        "href", "docs/problems/image_truncated"
    )


def test_a_service_that_does_not_answer_is_waited_for(site, visit):
    base_url, records = site
    page = visit(base_url, f"#/search?person={tallest(records)['id']}", expected=["Failed to load"])
    hits(page)
    page.context.set_offline(True)
    page.get_by_label("Show").select_option("detection")
    expect(page.locator("#banner")).to_contain_text("The service does not answer")
    expect(page.locator(".results .problem")).to_be_visible()
    page.context.set_offline(False)

    expect(page.locator("#banner")).to_be_empty(timeout=10_000)
    assert hits(page).count() > 11


def test_a_slow_search_says_so_and_can_be_cancelled(live, detector, visit, add_over):
    with live() as port:
        record = add_over(port)
        detector.go.clear()
        page = visit(f"http://127.0.0.1:{port}", f"#/search?box={record['id']}:1,1,60,90")
        expect(page.get_by_text("Searching …")).to_be_visible()
        expect(page.get_by_text("Still searching")).to_be_visible(timeout=8000)
        page.get_by_role("button", name="Cancel").click()
        expect(page.get_by_text("The search was cancelled.")).to_be_visible()
        detector.go.set()


def test_on_a_narrow_phone_nothing_is_cut_off(site, visit):
    base_url, records = site
    page = visit(base_url, viewport={"width": 360, "height": 740}, has_touch=True, is_mobile=True)
    addresses = ["#/search", f"#/search?person={tallest(records)['id']}", "#/gallery", "#/model"]
    for address in addresses:
        page.evaluate("address => { location.hash = address }", address)
        page.wait_for_load_state("networkidle")
        wide = page.evaluate("() => document.documentElement.scrollWidth")
        assert wide == 360, address


def test_a_finger_draws_a_box_when_asked_to(site, visit):
    page = visit(site[0], viewport={"width": 390, "height": 800}, has_touch=True, is_mobile=True)
    choose(page)
    page.get_by_role("button", name="Draw a box").tap()
    expect(page.get_by_role("button", name="Draw a box")).to_have_attribute("aria-pressed", "true")
    seen = page.locator(".query .layer").bounding_box()
    session = page.context.new_cdp_session(page)
    steps = [("Start", 0.6, 0.45), ("Move", 0.65, 0.6), ("Move", 0.78, 0.93), ("End", 0, 0)]
    for kind, x, y in steps:
        points = [{"x": seen["x"] + x * seen["width"], "y": seen["y"] + y * seen["height"]}]
        session.send(
            "Input.dispatchTouchEvent",
            {"type": f"touch{kind}", "touchPoints": [] if kind == "End" else points},
        )

    assert hits(page).count() > 0


@pytest.fixture
def add_over():
    """Add a picture over HTTP to a service with the stub detector; its record."""

    def added(port):
        content = picture(("red", (10, 10, 40, 80)), size=(100, 100))
        with closing(Client(f"http://127.0.0.1:{port}")) as client:
            return client.post("/gallery/images", [content])

    return added


def test_the_page_weighs_little():
    web = Path(__file__).parent.parent / "service" / "web"
    files = [file for file in web.iterdir() if not file.name.startswith("docs")]

    assert sum(file.stat().st_size for file in files) <= 150_000
