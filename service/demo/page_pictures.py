"""python -m service.demo.page_pictures: pictures of every view of the page, wide and narrow.

Starts the service on a free port with the scenes that ship, unless a base URL is given.
"""

if __name__ == "__main__":
    from models.command import run

    run("service.demo.page_pictures")

import argparse
from contextlib import ExitStack, closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from models.command import command
from service.demo.__main__ import DEMO_SCENES, labelled_person, read_scenes
from service.demo.browser import chromium
from service.demo.local import Client, running_service

if TYPE_CHECKING:
    from playwright.sync_api import Browser, FilePayload, Page

README = Path(__file__).parent.parent
SCENES = DEMO_SCENES / "images"
CAMERAS = {"c1": "gate", "c2": "square", "c3": "arcade", "aisle": "shop"}
SIZES = {"desktop": (1360, 900, 1), "phone": (390, 844, 2)}
BEGINNING = datetime(2026, 11, 20, 8, tzinfo=UTC)


@command
def main(arguments: list[str] | None = None) -> int:
    """Take the pictures."""
    parser = argparse.ArgumentParser(
        prog="python -m service.demo.page_pictures", description=__doc__
    )
    parser.add_argument("--base-url", help="of a running service that has scenes")
    parser.add_argument("--out", type=Path, default=Path("demo/page"), metavar="DIR")
    parser.add_argument("--dark", action="store_true", help="with dark colours, too")
    parser.add_argument(
        "--readme", action="store_true", help="only the two of README.md, into the package"
    )
    options = parser.parse_args(arguments)
    out, views = (README, IN_README) if options.readme else (options.out, VIEWS)
    out.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        base_url = options.base_url or stack.enter_context(running_service())
        client = stack.enter_context(closing(Client(base_url)))
        client.get("/livez")
        browser = stack.enter_context(chromium())
        if options.base_url is None:
            if not options.readme:
                take(browser, base_url, out, views={"empty": _empty}, dark=options.dark)
            fill(client)
        take(browser, base_url, out, views=views, dark=options.dark)
    return 0


def fill(client: Client) -> list[dict[str, Any]]:
    """Add the scenes that ship, each with a camera and a time; their records."""
    records = []
    for number, path in enumerate(sorted(SCENES.iterdir())):
        about = {
            "camera_id": CAMERAS[path.name.partition("_")[0]],
            "captured_at": (BEGINNING + timedelta(minutes=7 * number)).isoformat(),
            "tags": ["morning"] if number % 2 else ["morning", "rain"],
            "attributes": {"file": path.name},
        }
        records.append(client.post("/gallery/images", [path.read_bytes()], {"metadata": about}))
    return records


def take(
    browser: "Browser", base_url: str, out: Path, *, views: dict[str, Any], dark: bool
) -> None:
    """Every view at every size; prints the name of each file."""
    schemes: tuple[Literal["light", "dark"], ...] = ("light", "dark") if dark else ("light",)
    for scheme in schemes:
        for size, (width, height, scale) in SIZES.items():
            context = browser.new_context(
                viewport={"width": width, "height": height},
                device_scale_factor=scale,
                color_scheme=scheme,
                has_touch=size == "phone",
                locale="en-GB",
                timezone_id="UTC",
            )
            for name, steps in views.items():
                page = context.new_page()
                page.goto(base_url)
                steps(page)
                page.wait_for_load_state("networkidle")
                page.wait_for_timeout(300)
                if out == README:
                    path = out / f"page_{name}_{size}.jpg"
                    page.screenshot(path=path, type="jpeg", quality=82)
                else:
                    path = out / f"{name}-{size}{'-dark' if scheme == 'dark' else ''}.png"
                    page.screenshot(path=path)
                print(path)
                page.close()
            context.close()


def _empty(page: "Page") -> None:
    page.get_by_text("The gallery is empty").wait_for()


def _begin(page: "Page") -> None:
    page.locator(".pick-tile img[src]").first.wait_for()


def _pick(page: "Page") -> None:
    _begin(page)
    page.set_input_files(".drop input[type=file]", SCENES / "c1_000009.jpg")
    page.locator(".query .person").first.wait_for()


def _search(page: "Page") -> None:
    _pick(page)
    people = page.locator(".query .person")
    boxes = [
        (people.nth(n).bounding_box() or {"height": 0})["height"] for n in range(people.count())
    ]
    people.nth(boxes.index(max(boxes))).click()
    page.locator(".hit img.scene[src]").first.wait_for()


def _stored(page: "Page") -> None:
    """A search for whom `service.demo` looks for; in other scenes, for the first person there."""
    records = page.evaluate("fetch('/gallery/images?limit=500').then((answer) => answer.json())")[
        "items"
    ]
    paths, labels = read_scenes(DEMO_SCENES)
    wanted = labels and labelled_person(paths, labels)
    found = records[0]["detections"]
    for record in records:
        if wanted and record["attributes"].get("file") == wanted.path.name:
            middle = wanted.box[0] + wanted.box[2]
            found = sorted(
                record["detections"],
                key=lambda one: abs(one["box"]["x1"] + one["box"]["x2"] - middle),
            )
    page.evaluate("hash => { location.hash = hash }", f"#/search?person={found[0]['id']}")
    page.locator(".hit img.scene[src]").first.wait_for()


def _hit(page: "Page") -> None:
    _stored(page)
    page.locator(".hit-open").first.click()
    page.locator("dialog .versus img[src]").nth(1).wait_for()


def _gallery(page: "Page") -> None:
    page.get_by_role("link", name="Gallery").click()
    page.locator(".tile img[src]").first.wait_for()


def _add(page: "Page") -> None:
    _gallery(page)
    page.get_by_role("button", name="Add scenes").click()
    chosen: list[FilePayload] = [
        {"name": "cut off.jpg", "mimeType": "image/jpeg", "buffer": b"\xff\xd8\xff\xe0cut"},
        {"name": "gate/0001.jpg", "mimeType": "image/jpeg",
         "buffer": (SCENES / "c1_000000.jpg").read_bytes()},
    ]  # fmt: skip
    page.locator(".adding input[type=file]").first.set_input_files(chosen)
    page.get_by_text("2 of 2").wait_for()


def _scene(page: "Page") -> None:
    _gallery(page)
    page.locator(".tile-open").first.click()
    page.locator("dialog .people img[src]").first.wait_for()


def _delete(page: "Page") -> None:
    _scene(page)
    page.get_by_role("button", name="Delete this scene …").click()


def _model(page: "Page") -> None:
    page.get_by_role("link", name="Model").click()
    page.get_by_text("How good it is").wait_for()


def _nobody(page: "Page") -> None:
    _stored(page)
    page.evaluate("() => { location.hash += '&min=0.99' }")
    page.get_by_text("Nobody was found").first.wait_for()


def _offline(page: "Page") -> None:
    _stored(page)
    page.context.set_offline(True)
    page.get_by_role("button", name="Search again").first.click()
    page.get_by_text("Trying again").wait_for()
    page.wait_for_timeout(200)
    page.context.set_offline(False)


VIEWS = {
    "begin": _begin,
    "choose": _pick,
    "search": _search,
    "stored": _stored,
    "hit": _hit,
    "gallery": _gallery,
    "add": _add,
    "scene": _scene,
    "delete": _delete,
    "model": _model,
    "nobody": _nobody,
    "offline": _offline,
}
IN_README = {"search": _stored}
