"""How fast and how exact each engine is, how long a gallery takes to open, and how much disk and
memory (Linux) it takes.

    python -m indexer.bench [--sizes 10000 100000 1000000] [--queries 100] [--engines faiss-flat …]

Prints a table, then one JSON object on the last line. The vectors are made up: people seen 8 times
each, detection scores as a detector gives them. Times are wall times; medians where there are many.
"""

if __name__ == "__main__":
    from models.command import run

    run("indexer.bench.__main__")

import argparse
import dataclasses
import hashlib
import json
import logging
import multiprocessing
import platform
import resource
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from indexer.database.opening import open_store
from indexer.database.store import DATABASE
from indexer.gallery.gallery import Gallery
from indexer.index.engines import ENGINES, open_index
from indexer.index.exact import ExactIndex
from indexer.records import GalleryModel, NewScene
from indexer.rows import generations, scenes
from models.command import command
from models.detections import Detections
from models.similarity import gallery_vectors

SEED = 7
SIGHTINGS = 8
PEOPLE_PER_SCENE = 10
BATCH = 64
K = 10


@command
def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m indexer.bench", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--sizes", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--queries", type=int, default=100)
    parser.add_argument("--dim", type=int, default=256)
    parser.add_argument("--engines", nargs="+", choices=sorted(ENGINES), default=["faiss-flat"])
    asked = parser.parse_args(arguments)

    rows: list[dict[str, object]] = []
    for size in asked.sizes:
        people, queries = _people(size, asked.queries, asked.dim)
        judge = ExactIndex(asked.dim)
        judge.add(np.arange(1, size + 1), gallery_vectors(people))
        open_s, open_bytes, disk_bytes = _opening(people)
        for engine in asked.engines:
            rows.append(
                _measure(engine, people, queries, judge)
                | {"gallery_open_s": open_s, "open_bytes_each": open_bytes / size}
                | {"disk_bytes_each": disk_bytes / size}
            )
            if len(rows) == 1:
                print("  ".join(f"{name:>14}" for name in rows[0]))
            print("  ".join(f"{_short(value):>14}" for value in rows[-1].values()), flush=True)
    store_ms = _storing()
    print(f"storing a scene of {PEOPLE_PER_SCENE} people, on disk: {store_ms:.1f} ms (median)")
    print(
        json.dumps(
            {
                "benchmark": "indexer",
                "store_ms": store_ms,
                "machine": platform.machine(),
                "seed": SEED,
                "dim": asked.dim,
                "queries": asked.queries,
                "k": K,
                "rows": rows,
            }
        )
    )


def _people(size: int, queries: int, dim: int) -> tuple[Detections, NDArray[np.float32]]:
    """Detections of people seen SIGHTINGS times each, and queries [Q, D] for some of them."""
    random = np.random.default_rng(SEED)
    persons = _unit(random.standard_normal((-(-size // SIGHTINGS), dim), np.float32))
    seen = np.arange(size) % len(persons)
    embeddings = np.empty((size, dim), np.float32)
    for start in range(0, size, 50_000):
        block = persons[seen[start : start + 50_000]]
        noise = random.standard_normal(block.shape, np.float32) * np.float32(0.5 / dim**0.5)
        embeddings[start : start + 50_000] = _unit(block + noise)
    sure = random.random(size) < 0.75
    scores = np.where(sure, random.beta(18, 1, size), random.uniform(0.3, 1, size))
    corners = random.uniform(0, 900, (size, 2)).astype(np.float32)
    boxes = np.hstack([corners, corners + np.float32(80)])
    asked = persons[random.integers(len(persons), size=queries)]
    noise = random.standard_normal(asked.shape, np.float32) * np.float32(0.5 / dim**0.5)
    return Detections(boxes, scores.astype(np.float32), embeddings), _unit(asked + noise)


def _measure(
    engine: str, people: Detections, queries: NDArray[np.float32], judge: ExactIndex
) -> dict[str, object]:
    size, dim = people.embeddings.shape
    ids = np.arange(1, size + 1)
    vectors = gallery_vectors(people)
    index = open_index(engine, dim)
    add_s = _seconds(lambda: index.add(ids, vectors))
    some = np.random.default_rng(SEED).random(size + 1) < 0.1
    batch = np.resize(queries, (BATCH, dim))
    index.search(queries[:1], K)
    single = [_seconds(partial(index.search, q[None], K)) for q in queries]
    filtered = [_seconds(partial(index.search, q[None], K, some)) for q in queries]
    batched = min(_seconds(lambda: index.search(batch, K)) for _ in range(3))
    recall = np.mean(
        [
            len(np.intersect1d(index.search(q[None], K).ids, judge.search(q[None], K).ids)) / K
            for q in queries
        ]
    )
    nbytes = index.nbytes
    gone = np.random.default_rng(SEED).choice(ids, min(1000, size), replace=False)
    remove_s = _seconds(lambda: index.remove(gone))
    return {
        "engine": engine,
        "detections": size,
        "single_ms": statistics.median(single) * 1e3,
        "filtered_10%_ms": statistics.median(filtered) * 1e3,
        "batch64_ms_each": batched / BATCH * 1e3,
        f"recall@{K}": float(recall),
        "index_mb": nbytes / 1e6,
        "add_us_each": add_s / size * 1e6,
        "remove_us_each": remove_s / len(gone) * 1e6,
    }


def _opening(people: Detections) -> tuple[float, int, int]:
    """Seconds to open a gallery with these people in it, bytes of memory that it then takes, and
    bytes of its database."""
    dim = people.embeddings.shape[1]
    with tempfile.TemporaryDirectory() as folder:
        store = open_store(Path(folder) / DATABASE)
        with store.write() as connection:
            model = GalleryModel("bench", "bench", dim)
            number = generations.begin(connection, model, "active").number
            for scene, detections in _scenes(people):
                scenes.add(connection, scene, {number: detections})
        store.close()
        # In a process of its own, whose memory nothing else has used before.
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
            taken = process.submit(_open, Path(folder)).result()
        return *taken, (Path(folder) / DATABASE).stat().st_size


def _open(folder: Path) -> tuple[float, int]:
    logging.disable(logging.WARNING)  # that the originals are not there is no news
    before = _resident()
    start = time.perf_counter()
    with Gallery.reopen(folder):
        return time.perf_counter() - start, _resident() - before


def _resident() -> int:
    """Bytes of memory that this process holds."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()


def _storing(count: int = 50) -> float:
    """Milliseconds to add one scene of 300 kB so that no crash loses it; the median."""
    people, _ = _people(count * PEOPLE_PER_SCENE, 1, 256)
    random = np.random.default_rng(SEED)
    seconds = []
    with (
        tempfile.TemporaryDirectory() as folder,
        Gallery.open_(
            Path(folder), model_name="bench", model_fingerprint="bench", embedding_dim=256
        ) as gallery,
    ):
        for scene, detections in _scenes(people):
            content = random.bytes(300_000)
            sha256 = hashlib.sha256(content).hexdigest()
            whole = dataclasses.replace(scene, content=content, sha256=sha256)
            seconds.append(_seconds(partial(gallery.add, whole, detections)))
    return statistics.median(seconds) * 1e3


def _scenes(people: Detections) -> Iterator[tuple[NewScene, Detections]]:
    for start in range(0, len(people), PEOPLE_PER_SCENE):
        name = f"{start:064x}"
        scene = NewScene(b"", name, 1920, 1080, "JPEG", 1, camera_id=f"camera {start % 7}")
        yield scene, people.select(slice(start, start + PEOPLE_PER_SCENE))


def _unit(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    lengths: NDArray[np.float32] = np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors / lengths


def _seconds(action: Callable[[], object]) -> float:
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def _short(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
