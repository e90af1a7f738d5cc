"""How fast a bulk run is beside the plain indexer, and what it loses when workers are killed.

    python -m indexer.bench.bulk [--scenes 5000] [--kill-every 30] [--compare 200] [--ray]

Makes scenes (generated pictures of 320×240), and first adds --compare of them with `python -m
indexer add` and with `python -m indexer bulk`, in turn, each into a new gallery. Then adds all of
them with `bulk`, while a worker is killed with SIGKILL every so many seconds, and compares what is
stored with the files. Prints both, then one JSON object on the last line; the exit code is 1 when a
scene is lost or there twice. With the model that ships; wall times, starting included. Linux.
"""

if __name__ == "__main__":
    from models.command import run

    run("indexer.bench.bulk")

import argparse
import hashlib
import itertools
import json
import os
import random
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from indexer.gallery.gallery import Gallery
from models.command import command
from models.datasets.synthetic import write_synthetic

SEED = 7
SIZE = (320, 240)
WORKER = (b"spawn_main", b"ray::_Actor")  # in the command line of one


@command
def main(arguments: Sequence[str] | None = None) -> int:
    """Run; the exit code is 1 when a scene is lost or there twice."""
    parser = argparse.ArgumentParser(prog="python -m indexer.bench.bulk", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--scenes", type=int, default=5000)
    parser.add_argument("--kill-every", type=float, default=30, metavar="S", help="0: never")
    parser.add_argument("--compare", type=int, default=200, metavar="SCENES", help="0: not at all")
    parser.add_argument("--rounds", type=int, default=3, help="of the comparison")
    parser.add_argument("--shard", type=int, default=20, help="scenes of one")
    parser.add_argument("--ray", action="store_true", help="workers are placed by Ray")
    asked = parser.parse_args(arguments)
    bulk = ["bulk", "--shard", str(asked.shard), *(["--ray"] if asked.ray else [])]
    told: dict[str, object] = {"benchmark": "bulk", "seed": SEED, "ray": asked.ray}
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        begun = time.perf_counter()
        write_synthetic(
            root / "all", scenes=asked.scenes, persons=asked.scenes, size=SIZE, seed=SEED
        )
        files = sorted((root / "all" / "images").iterdir())
        print(f"{len(files)} scenes made in {time.perf_counter() - begun:.0f} s", flush=True)
        if asked.compare:
            told |= _compare(root, files[: asked.compare], bulk, asked.rounds)
        lost = twice = 0
        if asked.kill_every:
            lost, twice, found = _killing(root, files, bulk, asked.kill_every)
            told |= found
    print(json.dumps(told))
    return 1 if lost or twice else 0


def _compare(
    root: Path, files: Iterable[Path], bulk: Sequence[str], rounds: int
) -> dict[str, object]:
    """Median seconds of the plain indexer and of a bulk run, for the same scenes."""
    some = root / "some"
    some.mkdir()
    for file in files:
        shutil.copy(file, some)
    seconds: dict[str, list[float]] = {"add": [], "bulk": []}
    for _ in range(rounds):
        for words in (["add"], bulk):
            begun = time.perf_counter()
            _indexer(*words, some, gallery=root / "gallery").wait()
            seconds[words[0]].append(time.perf_counter() - begun)
            shutil.rmtree(root / "gallery")
    plain, many = (statistics.median(taken) for taken in seconds.values())
    best_plain, best_many = map(min, seconds.values())
    print(
        f"{len(list(some.iterdir()))} scenes, median (best) of {rounds}: add {plain:.1f} s "
        f"({best_plain:.1f}), bulk {many:.1f} s ({best_many:.1f}): {many / plain:.2f} "
        f"({best_many / best_plain:.2f}) × the time",
        flush=True,
    )
    return {"compared_s": seconds, "ratio": many / plain}


def _killing(
    root: Path, files: Sequence[Path], bulk: Sequence[str], every_s: float
) -> tuple[int, int, dict[str, object]]:
    """Scenes that are lost, and that are there twice, after a run whose workers were killed."""
    begun = time.perf_counter()
    run = _indexer(*bulk, files[0].parent, gallery=root / "gallery")
    chosen, kills = random.Random(SEED), 0
    for number in itertools.count(1):
        try:
            run.wait(max(0, begun + number * every_s - time.perf_counter()))
            break
        except subprocess.TimeoutExpired:
            workers = _workers(run.pid)
            if workers:
                os.kill(chosen.choice(workers), signal.SIGKILL)
                kills += 1
    taken = time.perf_counter() - begun
    if run.returncode:
        sys.exit(f"the run ended with exit code {run.returncode}")
    stored: Counter[str] = Counter()
    with Gallery.reopen(root / "gallery") as gallery:
        cursor = None
        while True:
            page = gallery.scenes.page(limit=500, cursor=cursor)
            stored.update(scene.sha256 for scene in page.scenes)
            cursor = page.next_cursor
            if cursor is None:
                break
        people = gallery.stats().detections
    wanted = {hashlib.sha256(file.read_bytes()).hexdigest() for file in files}
    lost, twice = len(wanted - stored.keys()), sum(count > 1 for count in stored.values())
    print(
        f"{len(files)} scenes in {taken:.0f} s ({len(files) / taken:.1f} a second) with {kills} "
        f"workers killed: {sum(stored.values())} stored with {people} people, {lost} lost, "
        f"{twice} there twice",
        flush=True,
    )
    return (
        lost,
        twice,
        {
            "scenes": len(files),
            "seconds": taken,
            "kills": kills,
            "stored": stored.total(),
            "people": people,
            "lost": lost,
            "twice": twice,
        },
    )


def _indexer(*words: object, gallery: Path) -> "subprocess.Popen[bytes]":
    command = [sys.executable, "-m", "indexer", *map(str, words), "--gallery", str(gallery)]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL)


def _workers(pid: int) -> list[int]:
    """The processes, below this one, that find people."""
    found = []
    for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        try:
            line = Path(f"/proc/{child}/cmdline").read_bytes()
            found += [int(child)] if any(name in line for name in WORKER) else []
            found += _workers(int(child))
        except OSError:
            continue  # it ended meanwhile
    return found
