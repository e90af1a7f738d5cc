"""The two kinds of job that add images: uploads that are not waited for, and imports."""

import codecs
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

from indexer.errors import ExternalIdConflictError, GalleryError
from indexer.ingest.ingest import index_scene
from indexer.records import AddResult, StoredScene
from indexer.rows.replies import Reply
from models.detector import Detector
from models.errors import PersonSearchError
from service.http.bodies import parse_json
from service.http.edge import logger
from service.http.errors import AllItemsFailedError, RequestError
from service.images.import_files import read_inside
from service.images.schemas import ImageMetadata, ImportLine, check_metadata_size
from service.running.jobs import JobContext
from service.running.parts import Parts

MANIFEST = "manifest.jsonl"
LINE_MAX_BYTES = 64 * 2**10


@dataclass(frozen=True)
class Item:
    """A file to add; reading it may fail, and then it fails alone."""

    name: str
    about: ImageMetadata
    read: Callable[[], bytes]


def add_uploads(parts: Parts, context: JobContext) -> dict[str, Any]:
    """Add files that a request left in the spool.

    Arguments: `metadata`, one ImageMetadata per file, and `on_duplicate`. Result: how many were
    `created`, `duplicates` and `failed`, and `image_ids` in the order of the files, null where
    one failed.
    """
    metadata = context.arguments["metadata"]

    def items() -> Iterator[Item]:
        for number, about in islice(enumerate(metadata), context.done, None):
            path = context.folder / spooled_name(number)
            yield Item(str(number), ImageMetadata.model_validate(about), partial(_spooled, path))

    refuse = context.arguments["on_duplicate"] == "error"
    return _add_all(parts, context, items(), len(metadata), refuse_duplicates=refuse, list_ids=True)


def add_from_directory(parts: Parts, context: JobContext) -> dict[str, Any]:
    """Add the files that a manifest in the spool names.

    Arguments: `total`, the lines of the manifest. Result: how many were `created`, `duplicates`
    and `failed`.
    """
    settings = parts.settings
    if settings.import_dir is None:
        raise imports_off()
    root: Path = settings.import_dir

    def item(number: int, line: bytes) -> Item:
        try:
            if len(line) > LINE_MAX_BYTES:
                raise RequestError(
                    "body_too_large", f"The line has more than {LINE_MAX_BYTES} bytes."
                )
            entry: ImportLine = parse_json(ImportLine, line)
            check_metadata_size(entry, settings.metadata_max_bytes)
        except RequestError as error:
            return Item(f"line {number}", ImageMetadata(), _raising(error))
        return Item(
            entry.file,
            entry,
            lambda: read_inside(root, entry.file, max_bytes=settings.image_max_bytes),
        )

    with _spooled_file(context.folder / MANIFEST) as manifest:
        lines = islice(manifest_lines(manifest), context.done, None)
        items = (item(number, line) for number, line in lines)
        return _add_all(parts, context, items, context.arguments["total"])


def manifest_lines(manifest: BinaryIO, *, most: int | None = None) -> Iterator[tuple[int, bytes]]:
    """The lines that are not empty, with their numbers from 1.

    One of more than LINE_MAX_BYTES is cut off behind so many and one more.

    Raises:
        RequestError: there are more lines than `most`, empty ones included.
    """
    if manifest.read(len(codecs.BOM_UTF8)) != codecs.BOM_UTF8:
        manifest.seek(0)
    number, at_once = 0, LINE_MAX_BYTES + len(b"\r\n")
    while line := manifest.readline(at_once):
        rest = line
        while len(rest) == at_once and not rest.endswith(b"\n"):
            rest = manifest.readline(at_once)
        number += 1
        if most is not None and number > most:
            raise RequestError(
                "body_too_large",
                f"A manifest has at most {most} lines.",
                limits={"max_lines": most},
            )
        line = line.rstrip(b"\r\n")[: LINE_MAX_BYTES + 1]
        line = line if len(line) > LINE_MAX_BYTES else line.strip()
        if line:
            yield number, line


def spooled_name(number: int) -> str:
    """The name of an upload's file in the spool."""
    return f"{number:04}"


def imports_off() -> RequestError:
    """The error when there is no import directory."""
    return RequestError("imports_off", "The service was started without an import directory.")


def add_image(
    parts: Parts,
    content: bytes,
    about: ImageMetadata,
    detector: Detector,
    *,
    reply: Callable[[StoredScene], Reply] | None = None,
) -> AddResult:
    """Add a picture and its metadata to the gallery, as index_scene does."""
    return index_scene(
        content,
        detector,
        parts.gallery,
        detector_of=parts.detectors.of,
        limits=parts.settings.image_limits,
        external_id=about.external_id,
        camera_id=about.camera_id,
        captured_at=about.captured_at,
        tags=tuple(about.tags),
        attributes=about.attributes,
        reply=reply,
    )


def _add_all(
    parts: Parts,
    context: JobContext,
    items: Iterable[Item],
    total: int,
    *,
    refuse_duplicates: bool = False,
    list_ids: bool = False,
) -> dict[str, Any]:
    """Add items, starting with the first that earlier attempts did not finish."""
    result: dict[str, Any] = {"created": 0, "duplicates": 0, "failed": 0}
    result |= {"image_ids": []} if list_ids else {}
    result |= context.result
    context.progress(context.done, total, failed=result["failed"])
    for done, item in enumerate(items, context.done + 1):
        image_id: str | None = None
        failure: PersonSearchError | None = None
        try:
            added = _add(parts, context, item)
            image_id = added.scene.id
            if added.created or _added_before_a_crash(context, added, done):
                result["created"] += 1
            elif refuse_duplicates:
                raise RequestError("duplicate_image", f"The same bytes are stored as {image_id}.")
            else:
                result["duplicates"] += 1
        except PersonSearchError as error:
            if isinstance(error, GalleryError) and not isinstance(error, ExternalIdConflictError):
                raise  # not of this file: the gallery cannot go on
            failure = error
        except Exception:  # a fault of ours, too, is of one file and not its neighbours
            logger.exception("job %s: %s failed", context.id, item.name)
            failure = RequestError("internal", "")
        if failure is not None:
            image_id = None
            result["failed"] += 1
            context.failed_item(item.name, failure)
        if list_ids:
            result["image_ids"].append(image_id)
        context.progress(done, total, failed=result["failed"], result=result)
    if result["failed"] == total:
        raise AllItemsFailedError(f"All {total} files failed; see errors.")
    return result


def _add(parts: Parts, context: JobContext, item: Item) -> AddResult:
    """One file, as POST /gallery/images adds it."""
    about, content = item.about, item.read()

    def add() -> AddResult:
        return add_image(parts, content, about, parts.detector)

    return context.infer_and_store(add)


def _added_before_a_crash(context: JobContext, added: AddResult, done: int) -> bool:
    """Whether the attempt before stored this item, and died before it was noted."""
    started = context.record.started_at
    repeated = context.record.attempts > 1 and done == context.done + 1
    return repeated and started is not None and added.scene.created_at >= started


def _spooled(path: Path) -> bytes:
    with _spooled_file(path) as file:
        return file.read()


def _spooled_file(path: Path) -> BinaryIO:
    try:
        return path.open("rb")
    except FileNotFoundError:  # as in a copy of the gallery that was made without the spool
        raise RequestError("file_unreadable", "What was uploaded is not there any more.") from None


def _raising(error: RequestError) -> Callable[[], bytes]:
    def read() -> bytes:
        raise error

    return read
