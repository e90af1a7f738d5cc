"""Very many pictures into a gallery: workers find the people, one loader stores them.

A run lies in a directory, which is gone when the run is complete:

    manifest.json      the command; written last, so that a run is there whole or not at all
    shards.jsonl       one shard a line: its files
    known.npy          SHA-256 of the gallery's pictures at the start: workers skip these
    parts/000012.npz   what a worker found in shard 12; under a temporary name until it is whole
    parts/000012.json  shard 12 is stored, and its part deleted: how many, and which files failed

Whatever dies, and whenever (a worker, a machine, this process), the same command goes on. Workers
look at a shard again only if its part is missing; it is stored again only if it was not ticked off.
No scene is stored twice, for the same bytes are the same scene.
"""

import hashlib
import io
import json
import shutil
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from contextvars import copy_context
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from indexer.errors import ExternalIdConflictError, GalleryDamagedError, GalleryError
from indexer.files.syncing import write_whole
from indexer.gallery.gallery import Gallery
from indexer.ingest.bulk_workers import Pool, WorkerLostError
from indexer.ingest.folders import EXCLUDED, find_images, free_id, take_place
from indexer.ingest.ingest import find_people, read_file
from indexer.records import NewScene
from models.detections import Detections
from models.detector import Detector
from models.errors import ImageError
from models.image import ImageLimits, read_image

SCENES_PER_SHARD = 100
STALL_S = 600.0
DEATHS_OF_A_SHARD = 10  # then one of its pictures is what kills
DEATHS_IN_A_ROW = 20  # then no worker can live here
KNOWN_AT_ONCE = 1000
ON_DISK = "S32"  # a SHA-256 as NumPy sorts it


@dataclass(frozen=True)
class Shard:
    """Some files: the number of the shard in its run, and (path, external id) of each."""

    number: int
    files: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Stored:
    """What became of files: how many new scenes, with how many people, and which files failed.

    Attributes:
        failed: (path, why) of each.
    """

    created: int = 0
    people: int = 0
    skipped: int = 0
    failed: tuple[tuple[str, str], ...] = ()

    @property
    def files(self) -> int:
        """How many files there were."""
        return self.created + self.skipped + len(self.failed)

    def __add__(self, other: Self) -> Self:
        return type(self)(
            self.created + other.created,
            self.people + other.people,
            self.skipped + other.skipped,
            self.failed + other.failed,
        )


@dataclass(frozen=True)
class Run:
    """A bulk run in its directory."""

    directory: Path

    @property
    def parts(self) -> Path:
        """The folder of parts and ticks."""
        return self.directory / "parts"

    def part(self, shard: int) -> Path:
        """The file with what a worker found."""
        return self.parts / f"{shard:06d}.npz"

    def tick(self, shard: int) -> Path:
        """The file that says that a part was stored."""
        return self.parts / f"{shard:06d}.json"


@dataclass(frozen=True)
class FindPeople:
    """The make_work of a Pool: calling it loads the model and returns what takes shards."""

    run: Run
    detector_of: Callable[[], Detector]
    limits: ImageLimits

    def __call__(self) -> Callable[[Shard], None]:
        detector = self.detector_of()
        known = np.load(self.run.directory / "known.npy", mmap_mode="r")

        def work(shard: Shard) -> None:
            if not self.run.part(shard.number).exists():
                write_whole(
                    self.run.part(shard.number), _part_of(shard, detector, known, self.limits)
                )

        return work


def bulk(
    paths: Sequence[Path],
    gallery: Gallery,
    directory: Path,
    make_pool: Callable[[Callable[[], Callable[[Shard], None]]], Pool],
    detector_of: Callable[[], Detector],
    *,
    scenes_per_shard: int = SCENES_PER_SHARD,
    stall_s: float = STALL_S,
    camera_id: str | None = None,
    tags: tuple[str, ...] = (),
    replace: bool = False,
    exclude: Sequence[str] = EXCLUDED,
    limits: ImageLimits = ImageLimits(),
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> Stored:
    """Add files and folders, as ingest does, by many workers; goes on where it was.

    Args:
        directory: of the run. Workers on other machines need it, and the files, at the same paths.
        make_pool: makes the workers, from what each of them does; they are closed here.
        detector_of: of the gallery's model; called in each worker.
        stall_s: give up when no worker finishes anything for so long.
        replace: as ingest takes it.
        exclude: as find_images takes it.
        on_progress: told how many files of all are done.

    Raises:
        GalleryError: the directory has the run of another command; or no worker finished anything
            in time; or they keep dying. What was stored stays, and so does the run.
    """
    run = Run(directory.absolute())  # a worker may have another working directory
    command = {
        "paths": [str(path.absolute()) for path in paths],
        "camera_id": camera_id,
        "tags": list(tags),
        "replace": replace,
        "exclude": list(exclude),
        "limits": asdict(limits),
        "model": gallery.model.fingerprint,
    }
    total = _plan(run, gallery, paths, command, scenes_per_shard)
    stored, waiting = Stored(), deque[Shard]()
    found: list[Shard] = []
    for shard in _shards(run):
        if run.tick(shard.number).exists():
            stored += _read_tick(run, shard)
        elif run.part(shard.number).exists():
            found.append(shard)
        else:
            waiting.append(shard)
    on_progress(stored.files, total)

    context = copy_context()  # with the audit trail's name, which a new thread lacks

    def load(shard: Shard) -> Stored:
        return context.run(
            _load, run, shard, gallery, camera_id, tags, limits=limits, replace=replace
        )

    with ThreadPoolExecutor(1) as loader:  # storing waits for the disk, finding does not
        loading = deque(loader.submit(load, shard) for shard in found)
        try:
            if waiting:
                pool = make_pool(FindPeople(run, detector_of, limits))
                try:
                    for shard in _found(waiting, pool, stall_s):
                        loading.append(loader.submit(load, shard))
                        while loading and loading[0].done():
                            stored += loading.popleft().result()
                            on_progress(stored.files, total)
                finally:
                    pool.close()
            while loading:
                stored += loading.popleft().result()
                on_progress(stored.files, total)
        finally:
            _cancel(loading)
    # The manifest goes first: without it, what is left of a run is none.
    (directory / "manifest.json").unlink()
    shutil.rmtree(directory)
    return stored


def _plan(
    run: Run, gallery: Gallery, paths: Sequence[Path], command: dict[str, Any], per_shard: int
) -> int:
    """Write the run's files, unless they are there; returns how many files are to be done."""
    manifest = run.directory / "manifest.json"
    if manifest.exists():
        planned = json.loads(manifest.read_text())
        files: int = planned.pop("files")
        if planned != command:
            raise GalleryError(
                f"{run.directory} has the unfinished run of another command or model: finish that "
                "one, delete the directory, or name another one"
            )
        return files
    if run.directory.exists():
        shutil.rmtree(run.directory)
    run.parts.mkdir(parents=True)
    images = find_images(paths, camera_id=command["camera_id"], exclude=command["exclude"]).files
    write_whole(run.directory / "known.npy", _npy(_known(gallery)))
    lines = [
        json.dumps([[str(image.path.absolute()), image.external_id] for image in some])
        for some in (images[i : i + per_shard] for i in range(0, len(images), per_shard))
    ]
    write_whole(run.directory / "shards.jsonl", "".join(f"{line}\n" for line in lines).encode())
    write_whole(manifest, json.dumps(command | {"files": len(images)}).encode())
    return len(images)


def _shards(run: Run) -> Iterator[Shard]:
    with (run.directory / "shards.jsonl").open() as lines:
        for number, line in enumerate(lines):
            yield Shard(number, tuple((path, name) for path, name in json.loads(line)))


def _known(gallery: Gallery) -> NDArray[np.bytes_]:
    """The SHA-256 of every stored scene, sorted."""
    found: list[bytes] = []
    cursor = None
    while True:
        page = gallery.scenes.page(limit=KNOWN_AT_ONCE, cursor=cursor)
        found += [bytes.fromhex(scene.sha256) for scene in page.scenes]
        cursor = page.next_cursor
        if cursor is None:
            return np.sort(np.array(found, ON_DISK))


def _found(waiting: deque[Shard], pool: Pool, stall_s: float) -> Iterator[Shard]:
    """Have workers do all shards; yields each once its part is there."""
    deaths: Counter[int] = Counter()
    in_a_row = 0
    doing: dict[Any, tuple[Any, Shard | None]] = {}

    def start() -> None:
        worker = pool.start()
        doing[pool.submit(worker, None)] = worker, None

    for _ in range(min(pool.size, len(waiting))):
        start()
    while waiting or any(shard is not None for _, shard in doing.values()):
        done = pool.wait(list(doing), stall_s)
        if not done:
            raise GalleryError(
                f"no worker finished anything in {stall_s:g} s; the same command goes on"
            )
        for job in done:
            worker, shard = doing.pop(job)
            try:
                pool.result(job)
            except WorkerLostError as error:
                in_a_row += 1
                if shard is not None:
                    deaths[shard.number] += 1
                    waiting.appendleft(shard)
                    if deaths[shard.number] == DEATHS_OF_A_SHARD:
                        raise GalleryError(
                            f"{DEATHS_OF_A_SHARD} workers died with the files from "
                            f"{shard.files[0][0]} to {shard.files[-1][0]}: {error}"
                        ) from error
                if in_a_row == DEATHS_IN_A_ROW:
                    raise GalleryError(f"worker after worker dies: {error}") from error
                start()
                continue
            if shard is not None:
                in_a_row = 0
                yield shard
            if waiting:
                following = waiting.popleft()
                doing[pool.submit(worker, following)] = worker, following


def _part_of(
    shard: Shard, detector: Detector, known: NDArray[np.bytes_], limits: ImageLimits
) -> bytes:
    """The part of a shard: what is found in its files; a file that cannot be used fails alone."""
    said: list[dict[str, object]] = []
    people: list[Detections] = []
    for path, external_id in shard.files:
        found = Detections.empty(detector.card.embedding_dim)
        about: dict[str, object] = {"path": path, "external_id": external_id}
        try:
            content = read_file(Path(path), limits)
            about["sha256"] = hashlib.sha256(content).hexdigest()
            if _is_in(known, hashlib.sha256(content).digest()):
                about["known"] = True
            else:
                image = read_image(content, limits)
                for name in ("width", "height", "format", "orientation"):
                    about[name] = getattr(image, name)
                found = find_people(image.pixels, detector)
        except (ImageError, OSError) as error:
            about["error"] = str(error)
        said.append(about)
        people.append(found)
    file = io.BytesIO()
    np.savez(
        file,
        files=np.frombuffer(json.dumps(said).encode(), np.uint8),
        counts=np.array([len(one) for one in people], np.int64),
        boxes=np.concatenate([one.boxes for one in people]),
        scores=np.concatenate([one.scores for one in people]),
        embeddings=np.concatenate([one.embeddings for one in people]),
    )
    return file.getvalue()


def _load(
    run: Run,
    shard: Shard,
    gallery: Gallery,
    camera_id: str | None,
    tags: tuple[str, ...],
    *,
    limits: ImageLimits,
    replace: bool,
) -> Stored:
    """Store what was found in a shard, tick it off, and delete its part."""
    stored = Stored()
    for about, people in _read_part(run.part(shard.number)):
        path = about["path"]
        if "error" in about:
            stored += Stored(failed=((path, about["error"]),))
            continue
        if "known" in about:
            with suppress(ImageError, OSError):  # what was read a moment ago may be gone
                gallery.scenes.mend(about["sha256"], read_file(Path(path), limits))
            stored += Stored(skipped=1)
            continue
        try:
            content = read_file(Path(path), limits)
            if hashlib.sha256(content).hexdigest() != about["sha256"]:
                raise OSError("the file was changed while it was indexed")
            external_id = free_id(gallery, about["external_id"], about["sha256"])
            scene = NewScene(
                content,
                about["sha256"],
                about["width"],
                about["height"],
                about["format"],
                about["orientation"],
                external_id,
                camera_id,
                tags=tags,
            )
            result = gallery.add(scene, people)
            overwritten = result.scene.external_id == external_id != about["external_id"]
            if replace and overwritten:
                take_place(gallery, result.scene.id, about["external_id"])
        except (ImageError, ExternalIdConflictError, OSError) as error:
            stored += Stored(failed=((path, str(error)),))
        else:
            is_new = result.created
            stored += Stored(int(is_new), len(people) if is_new else 0, int(not is_new))
    write_whole(run.tick(shard.number), json.dumps(asdict(stored)).encode())
    run.part(shard.number).unlink()
    return stored


def _read_part(path: Path) -> Iterator[tuple[dict[str, Any], Detections]]:
    try:
        with np.load(path, allow_pickle=False) as part:
            said = json.loads(part["files"].tobytes())
            ends = np.cumsum(part["counts"])
            people = Detections(part["boxes"], part["scores"], part["embeddings"])
    except Exception as error:  # zipfile and NumPy raise many types
        raise GalleryDamagedError(f"{path} is damaged; delete it and go on: {error}") from error
    start = 0
    for about, end in zip(said, ends.tolist(), strict=True):
        yield about, people.select(slice(start, end))
        start = end


def _read_tick(run: Run, shard: Shard) -> Stored:
    run.part(shard.number).unlink(missing_ok=True)
    said = json.loads(run.tick(shard.number).read_text())
    failed = tuple((path, why) for path, why in said.pop("failed"))
    return Stored(**said, failed=failed)


def _cancel(loading: deque[Future[Stored]]) -> None:
    for one in loading:
        one.cancel()


def _is_in(known: NDArray[np.bytes_], sha256: bytes) -> bool:
    wanted = np.array(sha256, ON_DISK)
    place = int(np.searchsorted(known, wanted))
    return place < len(known) and bool(known[place] == wanted)


def _npy(array: NDArray[Any]) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()
