"""python -m service.bench: what HTTP costs beside the detector, and how long searches take.

Starts the service in a child process on a free loopback port, unless a base URL is given; then a
secret in PERSON_SEARCH_KEY is sent. One request runs at a time, and rounds are interleaved, so that
all share the machine's mood. Prints a table, then one JSON object as the last line.
"""

if __name__ == "__main__":
    from models.command import run

    run("service.bench.__main__")

import argparse
import json
import platform
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from models.bench import sample_pictures
from models.command import command
from models.detector import DEFAULT_MODEL, OnnxDetector
from models.image import encode_jpeg, read_image
from service.demo.local import Client, running_service

MAX_REQUESTS = 1000
MAX_SECONDS = 300
SCENES = 8


@command
def main(arguments: list[str] | None = None) -> int:
    """Measure."""
    parser = argparse.ArgumentParser(prog="python -m service.bench", description=__doc__)
    parser.add_argument("--base-url", help="measure this running service; its gallery grows by 8")
    parser.add_argument("--requests", type=int, default=20, help=f"of each kind, 1–{MAX_REQUESTS}")
    parser.add_argument("--image", type=Path, help="a scene (default: a made one, 1280×720)")
    options = parser.parse_args(arguments)
    if not 1 <= options.requests <= MAX_REQUESTS:
        parser.error(f"--requests: expected 1 to {MAX_REQUESTS}")
    scene, *others = sample_pictures(1 + SCENES, width=1280, height=720)
    if options.image:
        scene = options.image.read_bytes()
    with ExitStack() as stack:
        base_url = options.base_url or stack.enter_context(running_service())
        client = Client(base_url)
        stack.callback(client.close)
        measured, around = bench(
            client, scene, others, options.requests, bare=options.base_url is None
        )
        version = client.get("/version")
    print(f"{'':<22}{'n':>5}{'p50 ms':>10}{'p95 ms':>10}")
    for name, times in measured.items():
        p50, p95 = np.percentile(times, [50, 95])
        print(f"{name:<22}{len(times):>5}{p50:>10.1f}{p95:>10.1f}")
    result: dict[str, object] = {
        name: {
            "n": len(times),
            "p50_ms": round(float(np.percentile(times, 50)), 2),
            "p95_ms": round(float(np.percentile(times, 95)), 2),
        }
        for name, times in measured.items()
    }
    overhead = float(np.median(around))
    print(f"HTTP adds {overhead:.1f} ms to what the service spends in the detector (median)")
    result["http_overhead_ms"] = round(overhead, 2)
    print(json.dumps({"model": version["model"]["name"], "machine": platform.processor() or
                      platform.machine(), **result}))  # fmt: skip
    return 0


def bench(
    client: Client, scene: bytes, others: list[bytes], requests: int, *, bare: bool
) -> tuple[dict[str, list[float]], list[float]]:
    """Milliseconds of each request, by kind; stops early after MAX_SECONDS.

    Also those of each POST /detect that were not spent on decoding and detecting: the same
    detector in two processes differs by more than HTTP costs.

    Args:
        others: pictures that make the gallery.
        bare: also run the default model in this process, on the same bytes.
    """
    client.post("/gallery/images", others)
    image = read_image(scene)
    height, width = image.height, image.width
    box = {"x1": width // 4, "y1": height // 4, "x2": width // 4 + 80, "y2": height // 4 + 160}
    crop = encode_jpeg(image.pixels[: max(height // 4, 32), : max(width // 16, 32)])
    kinds: dict[str, Callable[[], Any]] = {
        "POST /detect": lambda: client.post("/detect", [scene]),
        "search, crop": lambda: client.post("/search", [crop]),
        "search, scene and box": lambda: client.post(
            "/search", [scene], {"request": {"queries": [{"image": 0, "box": box}]}}
        ),
        "GET /livez": lambda: client.get("/livez"),
    }
    if bare:
        detector = OnnxDetector(DEFAULT_MODEL)
        # On a thread of its own, as in the service: memory is reused differently on the main one.
        thread = ThreadPoolExecutor(1)
        kinds = {
            "bare detector": lambda: thread.submit(
                lambda: detector.detect([read_image(scene).pixels])
            ).result(),
            **kinds,
        }
    for call in kinds.values():
        call()
    times: dict[str, list[float]] = {name: [] for name in kinds}
    ends = time.monotonic() + MAX_SECONDS
    around: list[float] = []
    for _ in range(requests):
        for name, call in kinds.items():
            started = time.perf_counter()
            answer = call()
            times[name].append((time.perf_counter() - started) * 1e3)
            if name == "POST /detect":
                spent = answer["timings_ms"]
                around.append(times[name][-1] - spent["decode"] - spent["infer"])
        if time.monotonic() > ends:
            break
    return times, around
