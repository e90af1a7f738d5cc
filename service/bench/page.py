"""python -m service.bench.page: how light, quick, readable and smooth the page is.

Fills a gallery with small pictures, serves it on a free loopback port, and drives the system's
Chromium through it. Prints what was measured beside its goal, then one JSON object as the last
line. The exit code is 1 where a goal was not reached.
"""

if __name__ == "__main__":
    from models.command import run

    run("service.bench.page")

import argparse
import hashlib
import io
import json
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image
from tqdm import tqdm

from indexer.gallery.gallery import Gallery
from indexer.records import NewScene
from models.command import command
from models.detections import Detections
from models.detector import DEFAULT_MODEL
from models.model_card import load_card
from service.demo.browser import chromium, serious_findings
from service.demo.local import running_service
from service.demo.page_pictures import BEGINNING, SCENES

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

PAGE_KB, DRAWN_MS, FRAME_MS, HEAP_MB = 150, 100, 34, 40  # the goals
SIZE = (352, 288)
PEOPLE = 4
SEARCHES = 10

# Scrolls from where it is by so many pixels a frame, and returns the milliseconds of each frame.
SCROLL = """([pixels, frames]) => new Promise((resolve) => {
  const times = [];
  let last = performance.now();
  const step = (now) => {
    times.push(now - last);
    last = now;
    if (times.length > frames) { resolve(times.slice(1)); return; }
    scrollBy(0, pixels);
    requestAnimationFrame(step);
  };
  requestAnimationFrame(step);
})"""


@command
def main(arguments: list[str] | None = None) -> int:
    """Measure; the exit code is 0 when every goal is reached, else 1."""
    parser = argparse.ArgumentParser(prog="python -m service.bench.page", description=__doc__)
    parser.add_argument("--scenes", type=int, default=10_000, help="in the gallery (10000)")
    options = parser.parse_args(arguments)
    with ExitStack() as stack:
        browser = stack.enter_context(chromium())
        data = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="page-bench-")))
        fill(data, options.scenes)
        base_url = stack.enter_context(running_service(data_dir=data))
        measured = measure(browser, base_url)
    rows = [
        ("page before pictures, KB", measured["page_kb"], PAGE_KB),
        ("answer to first result drawn, ms, worst", measured["drawn_ms_max"], DRAWN_MS),
        ("serious findings of axe-core", len(measured["findings"]), 0),
        ("scrolling slowly, frame p95, ms", measured["slow_p95_ms"], FRAME_MS),
        (f"all {options.scenes} scenes in 15 s, frame p95, ms", measured["fast_p95_ms"], FRAME_MS),
        ("heap of the page after that, MB", measured["heap_mb"], HEAP_MB),
    ]
    print(f"{'':<46}{'measured':>10}{'goal ≤':>10}")
    for name, value, goal in rows:
        print(f"{name:<46}{value:>10}{goal:>10}")
    print(json.dumps({"scenes": options.scenes, **measured}))
    return 0 if all(value <= goal for _, value, goal in rows) else 1


def fill(data: Path, count: int) -> None:
    """Make a gallery of small pictures with made people, through the store and no model."""
    card = load_card(DEFAULT_MODEL)
    chance = np.random.default_rng(0)
    width, height = SIZE
    with Gallery.open_(
        data,
        model_name=card.name,
        model_fingerprint=card.fingerprint,
        embedding_dim=card.embedding_dim,
    ) as gallery:
        pictures = tqdm(_pictures(count), total=count, desc="Filling the gallery", unit="scene")
        for number, content in enumerate(pictures):
            corners = chance.uniform((0, 0), (width * 0.8, height * 0.5), (PEOPLE, 2))
            boxes = np.hstack([corners, corners + np.array([width * 0.15, height * 0.45])])
            embeddings = chance.normal(size=(PEOPLE, card.embedding_dim))
            embeddings /= np.linalg.norm(embeddings, axis=1, keepdims=True)
            scene = NewScene(
                content=content,
                sha256=hashlib.sha256(content).hexdigest(),
                width=width,
                height=height,
                format="JPEG",
                orientation=1,
                camera_id=f"camera {number % 20}",
                captured_at=BEGINNING + timedelta(minutes=number),
            )
            scores = np.full(PEOPLE, 0.9, np.float32)
            found = Detections(boxes.astype(np.float32), scores, embeddings.astype(np.float32))
            gallery.add(scene, found)


def _pictures(count: int) -> Iterator[bytes]:
    """The scenes that ship, made small, each as another file."""
    small = []
    for path in sorted(SCENES.iterdir()):
        with Image.open(path) as picture:
            small.append(picture.resize(SIZE))
    for number in range(count):
        buffer = io.BytesIO()
        small[number % len(small)].save(buffer, "JPEG", quality=80, comment=str(number))
        yield buffer.getvalue()


def measure(browser: "Browser", base_url: str) -> dict[str, Any]:
    """All figures, of a desktop's window."""
    context = browser.new_context(viewport={"width": 1360, "height": 900})
    page = context.new_page()
    page.goto(base_url)
    page.locator(".pick-tile img[src]").first.wait_for()
    # What the browser fetched for the page itself: not the API's answers, not pictures.
    weight: int = page.evaluate(
        "() => [...performance.getEntriesByType('navigation'), "
        "...performance.getEntriesByType('resource')]"
        ".filter((one) => one.entryType === 'navigation' || one.name.includes('/assets/'))"
        ".reduce((sum, one) => sum + one.decodedBodySize, 0)"
    )
    drawn = _search(page)
    findings = _look(browser, base_url)
    heap_before, _ = _heap(page)
    page.evaluate("() => { location.hash = '#/gallery' }")
    page.locator(".tile img[src]").first.wait_for()
    slow = page.evaluate(SCROLL, [20, 300])
    page.evaluate("() => scrollTo(0, 0)")
    whole = page.evaluate("() => document.documentElement.scrollHeight")
    frames = 900
    fast = page.evaluate(SCROLL, [whole / frames, frames])
    page.locator(".tile img[src]").last.wait_for()
    heap, nodes = _heap(page)
    context.close()
    return {
        "page_kb": round(weight / 1000, 1),
        "drawn_ms_p50": round(float(np.median(drawn)), 1),
        "drawn_ms_max": round(max(drawn), 1),
        "findings": findings,
        "slow_p50_ms": round(float(np.percentile(slow, 50)), 1),
        "slow_p95_ms": round(float(np.percentile(slow, 95)), 1),
        "slow_max_ms": round(max(slow), 1),
        "fast_p50_ms": round(float(np.percentile(fast, 50)), 1),
        "fast_p95_ms": round(float(np.percentile(fast, 95)), 1),
        "fast_max_ms": round(max(fast), 1),
        "scrolled_px": whole,
        "heap_before_mb": heap_before,
        "heap_mb": heap,
        "nodes": nodes,
    }


def _search(page: "Page") -> list[float]:
    """Milliseconds from an answer to its first result drawn, for some stored people."""
    listed = page.evaluate(
        f"fetch('/gallery/images?limit={SEARCHES}').then((answer) => answer.json())"
    )
    times = []
    for image in listed["items"]:
        page.evaluate("() => performance.clearMarks()")
        address = f"#/search?person={image['detections'][0]['id']}"
        page.evaluate("address => { location.hash = address }", address)
        page.wait_for_function("() => performance.getEntriesByName('drawn').length")
        times.append(
            page.evaluate(
                "() => performance.getEntriesByName('drawn')[0].startTime"
                " - performance.getEntriesByName('answer')[0].startTime"
            )
        )
    return times


def _look(browser: "Browser", base_url: str) -> list[str]:
    """What axe-core finds on the main views, light and dark."""
    found = []
    for dark in (False, True):
        context = browser.new_context(color_scheme="dark" if dark else "light")
        page = context.new_page()
        page.goto(base_url)
        for view, there in (
            ("search", ".pick-tile img[src]"),
            ("gallery", ".tile img[src]"),
            ("model", ".model-list li"),
        ):
            page.evaluate("address => { location.hash = address }", f"#/{view}")
            page.locator(there).first.wait_for()
            found += [f"{view}: {line}" for line in serious_findings(page)]
        context.close()
    return found


def _heap(page: "Page") -> tuple[float, int]:
    """MB of JavaScript objects, and how many nodes there are, after a collection."""
    session = page.context.new_cdp_session(page)
    session.send("HeapProfiler.collectGarbage")
    session.send("Performance.enable")
    told = {one["name"]: one["value"] for one in session.send("Performance.getMetrics")["metrics"]}
    return round(told["JSHeapUsedSize"] / 1e6, 1), int(told["Nodes"])
