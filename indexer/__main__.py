"""Galleries from the command line.

    python -m indexer add DIR|FILE… [--gallery DIR] [--model PATH] [--camera ID] [--tag T]…
    python -m indexer bulk DIR|FILE… [--workers N] [--device cuda] [--ray [HOST:PORT]] …
    python -m indexer search IMAGE [--box X1 Y1 X2 Y2] [-k 10] [--camera ID]… [--json]
    python -m indexer remove ID…
    python -m indexer stats
    python -m indexer rebuild
    python -m indexer compact
    python -m indexer reindex --model PATH | --rollback
    python -m indexer quarantine [--take-back | --delete] [SHA256… | --all]
    python -m indexer snapshot
    python -m indexer snapshots
    python -m indexer restore SNAPSHOT
    python -m indexer export DIR|FILE.tar
    python -m indexer import DIR|FILE.tar

Each takes --gallery DIR; without it, ./data is meant, where the service keeps its own, too. A
gallery that the service has open is not free for these commands, unless it is kept in PostgreSQL:
--database postgresql://user@host/name (the password comes from PGPASSWORD or ~/.pgpass).
Exit codes: 0 all done; 1 done, but some files or folders could not be read, added, or copied (they
are listed; everything else is stored), or there was no picture to add; 2 not done, and why on one
line; 130 interrupted (what was added stays, and the same command goes on from there).
"""

if __name__ == "__main__":
    from models.command import run

    run("indexer.__main__")

import argparse
import dataclasses
import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from indexer.arguments import (
    add_limits,
    add_options,
    excluded,
    limits_of,
    model_before,
    model_of,
    model_to_come,
    open_gallery,
    positive,
    reopen_gallery,
    scene_id,
    snapshots_of,
)
from indexer.errors import GalleryError, GalleryMismatchError
from indexer.gallery.moving import export_gallery, import_gallery
from indexer.gallery.restoring import restore_snapshot
from indexer.gallery.snapshots import list_snapshots
from indexer.ingest.bulk import SCENES_PER_SHARD, STALL_S
from indexer.ingest.bulk import bulk as add_in_bulk
from indexer.ingest.bulk_workers import Pool, Processes, RayActors, Work
from indexer.ingest.folders import Found, find_images
from indexer.ingest.ingest import ingest
from indexer.ingest.quarantine import take_back
from indexer.ingest.reindex import reindex as change_model
from indexer.records import GalleryHit, GalleryModel, SceneFilter
from indexer.rows.audit import acting_as
from indexer.times import time_of
from models.command import command, goes_on
from models.cores import usable_cores
from models.detector import DEFAULT_MODEL, OnnxDetector
from models.errors import PersonSearchError
from models.image import read_image
from models.model_card import load_card

TOLD_EVERY_S = 30.0
METER = "{n_fmt} of {total_fmt} files, {rate_fmt}, {remaining} left"


@command
def main(arguments: Sequence[str] | None = None, *, prog: str | None = None) -> int:
    """Run one command; returns the exit code.

    Args:
        prog: how the command is typed, where not as `python -m indexer COMMAND`.
    """
    asked = _parser(prog).parse_args(arguments)
    with (
        goes_on() if asked.command in GO_ON else nullcontext(),
        acting_as("(command line)"),
    ):
        return COMMANDS[asked.command](asked)


def add(asked: argparse.Namespace) -> int:
    model = model_of(asked)
    detector = OnnxDetector(model or DEFAULT_MODEL, threads=asked.threads)
    found = find_images(asked.paths, camera_id=asked.camera, exclude=excluded(asked))
    total = len(found.files)
    created = people = 0
    failed = []
    with open_gallery(asked, model, detector.card) as gallery:
        outcomes = ingest(
            asked.paths,
            detector,
            gallery,
            limits=limits_of(asked),
            camera_id=asked.camera,
            tags=tuple(asked.tag),
            replace=asked.replace,
            found=found,
        )
        # disable=None: no bar unless a person is watching
        for outcome in tqdm(outcomes, total=total, unit="file", disable=None):
            if outcome.result is None:
                failed.append(outcome)
            elif outcome.result.created:
                created += 1
                people += len(outcome.result.scene.detections)
    skipped = total - created - len(failed)
    print(f"{created} added with {people} people, {skipped} already there, {len(failed)} failed")
    for outcome in failed:
        print(f"failed: {outcome.file.path}: {outcome.error}", file=sys.stderr)
    return _left_out(found, failed=bool(failed))


def bulk(asked: argparse.Namespace) -> int:
    model = model_of(asked)
    directory = (model or DEFAULT_MODEL).absolute()
    cores = usable_cores()
    threads = asked.threads or cores
    workers = asked.workers or max(1, cores // threads)

    def make_pool(make_work: Callable[[], Work]) -> Pool:
        if asked.ray is None:
            return Processes(workers, make_work, threads=threads)
        return RayActors(
            workers,
            make_work,
            address=asked.ray or None,
            threads=threads,
            gpus=asked.gpus if asked.device == "cuda" else 0,
        )

    with open_gallery(asked, model, load_card(directory)) as gallery, _told() as tell:
        stored = add_in_bulk(
            asked.paths,
            gallery,
            asked.work or asked.gallery / "bulk",
            make_pool,
            partial(OnnxDetector, directory, threads=threads, device=asked.device),
            scenes_per_shard=asked.shard,
            stall_s=asked.stall,
            camera_id=asked.camera,
            tags=tuple(asked.tag),
            replace=asked.replace,
            exclude=excluded(asked),
            limits=limits_of(asked),
            on_progress=tell,
        )
    print(
        f"{stored.created} added with {stored.people} people, {stored.skipped} already there, "
        f"{len(stored.failed)} failed"
    )
    for path, error in stored.failed:
        print(f"failed: {path}: {error}", file=sys.stderr)
    found = find_images(asked.paths, camera_id=asked.camera, exclude=excluded(asked))
    return _left_out(found, failed=bool(stored.failed))


def search(asked: argparse.Namespace) -> int:
    model = model_of(asked)
    detector = OnnxDetector(model or DEFAULT_MODEL, threads=asked.threads)
    image = read_image(asked.image)
    if asked.box is None:
        query = detector.embed_crop(image.pixels)
    else:
        query = detector.embed(image.pixels, np.array([asked.box], np.float32))[0]
    cameras = tuple(asked.camera) or None
    with open_gallery(asked, model, detector.card) as gallery:
        hits = gallery.search(query, k=asked.k, filter=SceneFilter(camera_in=cameras))
    if asked.json:
        print(json.dumps([_as_json(rank, hit) for rank, hit in enumerate(hits, 1)], indent=2))
        return 0
    for rank, hit in enumerate(hits, 1):
        box = " ".join(f"{side:.0f}" for side in hit.detection.box)
        name = hit.scene.external_id or hit.scene.id
        print(f"{rank:>4}  {hit.score:8.6f}  {name}  [{box}]  {hit.scene.camera_id or ''}".rstrip())
    return 0


def remove(asked: argparse.Namespace) -> int:
    with reopen_gallery(asked) as gallery:
        for name in asked.ids:
            gallery.remove(scene_id(gallery, name))
            print(f"removed {name}")
    return 0


def stats(asked: argparse.Namespace) -> int:
    with reopen_gallery(asked) as gallery:
        for name, value in dataclasses.asdict(gallery.stats()).items():
            print(f"{name}: {value}")
    return 0


def rebuild(asked: argparse.Namespace) -> int:
    with reopen_gallery(asked) as gallery:
        gallery.index.rebuild()
        counted = gallery.stats()
    print(f"rebuilt the index: {counted.detections} people in {counted.scenes} scenes")
    return 0


def compact(asked: argparse.Namespace) -> int:
    with reopen_gallery(asked) as gallery:
        freed = gallery.upkeep.compact()
    print(f"compacted: the database is {freed.database_bytes} bytes smaller")
    return 0


def reindex(asked: argparse.Namespace) -> int:
    with reopen_gallery(asked) as gallery:
        model = model_before(gallery) if asked.rollback else model_to_come(asked.model)
        directory = DEFAULT_MODEL if model.path is None else Path(model.path)
        loaded: list[OnnxDetector] = []

        def detector_of(model: GalleryModel) -> OnnxDetector:
            if not loaded:
                loaded.append(OnnxDetector(directory, threads=asked.threads))
                found = loaded[0].card
                if found.fingerprint != model.fingerprint:
                    raise GalleryMismatchError(f"{directory} is another model than {model.name}")
            return loaded[0]

        def fail(scene_id: str, error: PersonSearchError) -> None:
            print(f"failed: {scene_id}: {error}", file=sys.stderr)

        with tqdm(unit="scene", disable=None) as bar:
            generation = change_model(
                gallery,
                model,
                detector_of,
                skip_unreadable=asked.skip_unreadable,
                on_progress=lambda told: _advance(bar, told.done, told.total),
                on_failure=fail,
            )
        counted = gallery.stats()
    print(
        f"{model.name} answers now ({generation.id}): {counted.detections} people in "
        f"{counted.scenes} scenes; --rollback goes back"
    )
    return 0


def quarantine(asked: argparse.Namespace) -> int:
    named = set(asked.contents)
    if (asked.take_back or asked.delete) != bool(named or asked.all):
        raise GalleryError(
            "expected --take-back or --delete, with the SHA-256 of files or --all; "
            "or neither, for a list"
        )
    if asked.take_back:
        return _take_back(asked)
    with reopen_gallery(asked) as gallery:
        found = gallery.quarantine.look()
        if asked.delete:
            gone = {one.sha256 for one in found} if asked.all else named
            gallery.quarantine.remove(gone)
            print(f"{len(gone)} deleted")
            return 0
    for one in found:
        print(f"{one.sha256}  {one.stored_at.isoformat(timespec='seconds')}  {one.nbytes} bytes")
    print(f"{len(found)} in quarantine")
    return 0


def _take_back(asked: argparse.Namespace) -> int:
    model = model_of(asked)
    detector = OnnxDetector(model or DEFAULT_MODEL, threads=asked.threads)
    created = already = failed = 0
    with open_gallery(asked, model, detector.card) as gallery:
        found = [one.sha256 for one in gallery.quarantine.look()]
        contents = found if asked.all else list(dict.fromkeys(asked.contents))
        for one in take_back(
            contents,
            detector,
            gallery,
            limits=limits_of(asked),
            camera_id=asked.camera,
            tags=tuple(asked.tag),
        ):
            if one.result is None:
                failed += 1
                print(f"failed: {one.sha256}: {one.error}", file=sys.stderr)
            elif one.result.created:
                created += 1
                print(f"added {one.result.scene.id}: {one.sha256}")
            else:
                already += 1
    print(f"{created} added, {already} already there, {failed} failed")
    return 1 if failed else 0


def snapshot(asked: argparse.Namespace) -> int:
    with reopen_gallery(asked) as gallery:
        with tqdm(unit="B", unit_scale=True, disable=None) as bar:
            made = gallery.snapshots.make(on_progress=partial(_advance, bar))
        path = gallery.snapshots.directory / made.id
    print(f"{path}: {made.detections} people in {made.scenes} scenes, {made.nbytes} bytes")
    for sha256 in made.damaged:
        print(f"failed: the original {sha256} is gone or damaged", file=sys.stderr)
    return 1 if made.damaged else 0


def snapshots(asked: argparse.Namespace) -> int:
    for found in list_snapshots(snapshots_of(asked)):
        if found.manifest is None:
            print(f"{found.path}  damaged: {found.problem}")
            continue
        made = found.manifest
        taken = time_of(made.created_at).isoformat(timespec="seconds")
        print(f"{found.path}  {taken}  {made.scenes} scenes  {made.nbytes} bytes")
    return 0


def restore(asked: argparse.Namespace) -> int:
    if asked.database is not None:
        raise GalleryError(
            "restore replaces a directory; make an empty database and import the snapshot into it"
        )
    path = asked.snapshot
    if not path.is_dir() and len(path.parts) == 1:
        path = snapshots_of(asked) / path
    with tqdm(unit="B", unit_scale=True, disable=None) as bar:
        restored = restore_snapshot(path, asked.gallery, on_progress=partial(_advance, bar))
    # Opening it finishes what was erased since the snapshot, and shows that it can be opened.
    with reopen_gallery(asked) as gallery:
        counted = gallery.stats()
    print(f"restored {restored.id}: {counted.detections} people in {counted.scenes} scenes")
    if counted.scenes < restored.scenes or counted.detections < restored.detections:
        print(
            f"{restored.scenes - counted.scenes} scenes, {restored.detections - counted.detections}"
            " people stay erased"
        )
    return 0


def export(asked: argparse.Namespace) -> int:
    with reopen_gallery(asked) as gallery, tqdm(unit="B", unit_scale=True, disable=None) as bar:
        made = export_gallery(gallery, asked.target, on_progress=partial(_advance, bar))
    print(f"exported {made.detections} people in {made.scenes} scenes into {asked.target}")
    for sha256 in made.damaged:
        print(f"failed: the original {sha256} is gone or damaged", file=sys.stderr)
    return 1 if made.damaged else 0


def import_(asked: argparse.Namespace) -> int:
    with tqdm(unit="B", unit_scale=True, disable=None) as bar:
        made = import_gallery(
            asked.source,
            asked.gallery,
            database=asked.database,
            originals=asked.originals,
            on_progress=partial(_advance, bar),
        )
    # Opening it shows that it can be opened.
    with reopen_gallery(asked) as gallery:
        counted = gallery.stats()
    print(f"imported {made.id}: {counted.detections} people in {counted.scenes} scenes")
    return 0


COMMANDS = {
    "add": add,
    "bulk": bulk,
    "search": search,
    "remove": remove,
    "stats": stats,
    "rebuild": rebuild,
    "compact": compact,
    "reindex": reindex,
    "quarantine": quarantine,
    "snapshot": snapshot,
    "snapshots": snapshots,
    "restore": restore,
    "export": export,
    "import": import_,
}
GO_ON = ("add", "bulk", "reindex")


def _parser(prog: str | None = None) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m indexer", description="Galleries of scenes.")
    commands = parser.add_subparsers(dest="command", required=True)

    def command(name: str, help: str, *, model: bool = False) -> argparse.ArgumentParser:
        added = commands.add_parser(name, prog=prog, help=help, description=help)
        default = Path("data")
        gallery_help = f"the gallery's directory (./{default})"
        added.add_argument(
            "--gallery", type=Path, default=default, metavar="DIR", help=gallery_help
        )
        database_help = "PostgreSQL database of the gallery; by default a file in its directory"
        added.add_argument("--database", metavar="URL", help=database_help)
        originals_help = "object storage of the originals, s3://bucket/prefix; by default files"
        added.add_argument("--originals", metavar="URL", help=originals_help)
        engine_help = "index engine (faiss-flat); milvus-flat and milvus-hnsw need --milvus"
        added.add_argument("--engine", default="faiss-flat", metavar="NAME", help=engine_help)
        added.add_argument("--milvus", metavar="URI", help="Milvus server: http://host:19530")
        if model:
            model_help = "model directory; by default the one that the gallery was made with"
            added.add_argument("--model", type=Path, metavar="PATH", help=model_help)
            threads_help = "for the detector; 0 is one per core, or CPU of a container's quota"
            added.add_argument("--threads", type=int, default=0, metavar="N", help=threads_help)
        return added

    one = command("add", "add pictures, and folders of them; what is there is skipped", model=True)
    one.add_argument("paths", type=Path, nargs="+", metavar="DIR|FILE")
    one.add_argument("--camera", metavar="ID", help="the camera that took them all")
    one.add_argument("--tag", action="append", default=[], metavar="T", help="may be repeated")

    add_options(one)

    one = command("bulk", "add very many pictures by several processes or machines", model=True)
    one.add_argument("paths", type=Path, nargs="+", metavar="DIR|FILE")
    one.add_argument("--camera", metavar="ID", help="the camera that took them all")
    one.add_argument("--tag", action="append", default=[], metavar="T", help="may be repeated")
    add_options(one)
    workers_help = "how many look at pictures; by default as many as the cores here allow"
    one.add_argument("--workers", type=positive, metavar="N", help=workers_help)
    one.set_defaults(threads=1)
    one.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="of the model (cpu)")
    ray_help = "let Ray place the workers: on the cluster at HOST:PORT, or on one started here"
    one.add_argument("--ray", nargs="?", const="", metavar="HOST:PORT", help=ray_help)
    gpus_help = "GPUs, or the share of one, that Ray gives a worker (1)"
    one.add_argument("--gpus", type=float, default=1, metavar="N", help=gpus_help)
    size = SCENES_PER_SHARD
    shard_help = f"pictures that one worker looks at before they are stored ({size})"
    one.add_argument("--shard", type=positive, default=size, metavar="N", help=shard_help)
    stall_help = f"seconds without any progress after which to give up ({STALL_S:g})"
    one.add_argument("--stall", type=float, default=STALL_S, metavar="S", help=stall_help)
    work_help = (
        "the run's directory (bulk, in the gallery's), which all workers see under this path"
    )
    one.add_argument("--work", type=Path, metavar="DIR", help=work_help)

    one = command("search", "find the people most like the one in a picture", model=True)
    one.add_argument("image", type=Path, metavar="IMAGE", help="a crop, or a scene with --box")
    sides = ("X1", "Y1", "X2", "Y2")
    one.add_argument("--box", type=float, nargs=4, metavar=sides, help="the person, in pixels")
    one.add_argument("-k", type=positive, default=10, metavar="K", help="how many (10)")
    one.add_argument("--camera", action="append", default=[], metavar="ID", help="may be repeated")
    one.add_argument("--json", action="store_true", help="print a JSON list")

    one = command("remove", "remove scenes")
    one.add_argument("ids", nargs="+", metavar="ID", help="a scene's id or external id")

    one = command(
        "quarantine", "list, add or delete originals that have no scene, set aside", model=True
    )
    one.add_argument("contents", nargs="*", metavar="SHA256", help="the name of a file, in full")
    one.add_argument("--all", action="store_true", help="every file there")
    which = one.add_mutually_exclusive_group()
    which.add_argument("--take-back", action="store_true", help="add them: scenes with new ids")
    which.add_argument("--delete", action="store_true", help="delete them for good")
    one.add_argument("--camera", metavar="ID", help="the camera that took them all")
    one.add_argument("--tag", action="append", default=[], metavar="T", help="may be repeated")
    add_limits(one)

    command("stats", "say what a gallery holds")
    command("rebuild", "read every row, check it, and build the index anew")
    command("compact", "write the database anew when that makes it smaller")

    one = command("reindex", "change the model: read all scenes anew; resumes, and can be undone")
    which = one.add_mutually_exclusive_group(required=True)
    model_help = "model directory, or the name of one that ships"
    which.add_argument("--model", type=Path, metavar="PATH", help=model_help)
    skip_help = "go on without scenes whose pictures cannot be read; nobody is found in them"
    one.add_argument("--skip-unreadable", action="store_true", help=skip_help)
    which.add_argument("--rollback", action="store_true", help="back to the model before")
    threads_help = "for the detector; 0 is one per core, or CPU of a container's quota"
    one.add_argument("--threads", type=int, default=0, metavar="N", help=threads_help)

    for name, help in (
        ("snapshot", "copy the gallery, whole, into a new snapshot"),
        ("snapshots", "list the snapshots of a gallery"),
        ("restore", "put a snapshot in the place of what the gallery holds, which is deleted"),
    ):
        one = command(name, help)
        snapshots_help = "where snapshots lie (snapshots, in the gallery's directory)"
        one.add_argument("--snapshots", type=Path, metavar="DIR", help=snapshots_help)
    one.add_argument("snapshot", type=Path, metavar="SNAPSHOT", help="its name, or its directory")

    one = command("export", "write the gallery, whole, into a new directory or tar file")
    one.add_argument("target", type=Path, metavar="DIR|FILE.tar")
    one = command("import", "put what was exported, or a snapshot, where no gallery is yet")
    one.add_argument("source", type=Path, metavar="DIR|FILE.tar")
    return parser


def _left_out(found: Found, *, failed: bool) -> int:
    """Say what was left out of folders; returns the exit code."""
    print(f"left out: {found.left_out}")
    for path, why in found.unreadable:
        print(f"failed: {path}: {why}", file=sys.stderr)
    if not found.files:
        print("failed: there is no picture in what was named", file=sys.stderr)
    return 1 if failed or found.unreadable or not found.files else 0


def _advance(bar: Any, done: int, total: int) -> None:
    bar.total = total
    bar.update(done - bar.n)


@contextmanager
def _told() -> Iterator[Callable[[int, int], None]]:
    """How far it is, with rate and time left: a bar for a person, else a line now and then."""
    begun = last = time.monotonic()
    first = None
    with tqdm(unit="file", disable=None) as bar:

        def tell(done: int, total: int) -> None:
            nonlocal first, last
            now = time.monotonic()
            first = done if first is None else first  # what an earlier run did is no speed
            bar.initial = first
            _advance(bar, done, total)
            if bar.disable and (now - last > TOLD_EVERY_S or done == total):
                last = now
                print(_meter(done, total, first, now - begun), file=sys.stderr, flush=True)

        yield tell


def _meter(done: int, total: int, first: int, elapsed_s: float) -> str:
    """One line of tqdm's: how many, how fast since first, how long it will still take."""
    meter: str = tqdm.format_meter(
        done, total, elapsed_s, initial=first, unit="file", bar_format=METER
    )
    return meter


def _as_json(rank: int, hit: GalleryHit) -> dict[str, object]:
    x1, y1, x2, y2 = hit.detection.box
    taken = hit.scene.captured_at
    return {
        "rank": rank,
        "score": hit.score,
        "similarity": hit.similarity,
        "detection_id": hit.detection.id,
        "detection_score": hit.detection.score,
        "box": {"x1": x1, "y1": y1, "x2": x2, "y2": y2},
        "image_id": hit.scene.id,
        "external_id": hit.scene.external_id,
        "camera_id": hit.scene.camera_id,
        "captured_at": None if taken is None else taken.isoformat().replace("+00:00", "Z"),
    }
