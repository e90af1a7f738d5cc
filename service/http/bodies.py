"""Reading request bodies: bounded, off the event loop where it computes, never trusted."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from email.message import Message
from tempfile import TemporaryFile
from typing import Any, BinaryIO, TypeVar, cast

import anyio
import anyio.to_thread
from anyio.lowlevel import RunVar
from pydantic import BaseModel, TypeAdapter, ValidationError
from starlette.datastructures import FormData, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect, Request

from indexer.errors import StorageFullError
from service.http.errors import DeadlineError, RequestError, invalid_at, validation_error
from service.http.garbage import not_collected
from service.http.long_texts import take_long_texts

FIELD_MAX_BYTES = 256 * 2**10
JSON_MAX_BYTES = 2**20  # of a document without pictures
JSON_MAX_VALUES = 200_000  # commas and brackets, also those in texts
MOST_NAMES = 64  # in one object; no body has as many
CONTENT_TYPE_MAX = 1024
JSON_TYPES = ("application/json", "application/merge-patch+json")
SMALL_BYTES = 64 * 2**10
WRITTEN_AT_ONCE = 2**20

_large_one: RunVar[anyio.Semaphore] = RunVar("large_one")

T = TypeVar("T")
Checked = TypeVar("Checked", bound=BaseModel)


class _Parser(MultiPartParser):
    """Starlette's parser, and a check it lacks: that the closing boundary came."""

    complete = False

    def on_end(self) -> None:
        self.complete = True

    async def parse_all(self) -> FormData:
        """The form.

        Raises:
            MultiPartException: also when the body ends too early.
        """
        form = await self.parse()
        if not self.complete:
            for file in self._files_to_close_on_error:
                file.close()
            raise MultiPartException("The closing boundary is missing.")
        return form


@dataclass(frozen=True)
class Form:
    """A multipart body: its `image` files, and one JSON part when it was sent."""

    images: list[UploadFile]
    document: bytes | None


def media_type(request: Request) -> str:
    """The body's media type, lower case.

    Raises:
        RequestError: the body is compressed, or in an encoding other than UTF-8.
    """
    if len(request.headers.get("content-type", "")) > CONTENT_TYPE_MAX:  # slow to read
        raise RequestError("unsupported_media_type", "The Content-Type is too long.")
    message = Message()
    message["content-type"] = request.headers.get("content-type", "")
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        raise RequestError("unsupported_media_type", "Send the body without Content-Encoding.")
    charset = message.get_param("charset")
    if charset is not None and str(charset).lower() not in ("utf-8", "utf8", "us-ascii"):
        raise RequestError("unsupported_media_type", "Send text in UTF-8.")
    return message.get_content_type() if request.headers.get("content-type") else ""


@asynccontextmanager
async def read_form(
    request: Request, *, document: str | None, max_files: int, deadline_s: float
) -> AsyncIterator[Form]:
    """Receive a multipart body with `image` files; its temporary files last as long as the context.

    Args:
        document: name of the JSON part that the form may have.

    Raises:
        RequestError, DeadlineError
    """
    if media_type(request) != "multipart/form-data":
        raise RequestError("unsupported_media_type", "Send multipart/form-data, as curl -F does.")
    # One file more than images: the JSON part may come as a file, too.
    parser = _Parser(
        request.headers,
        request.stream(),
        max_files=max_files + 1,
        max_fields=8,
        max_part_size=FIELD_MAX_BYTES,
    )
    try:
        async with asyncio.timeout(deadline_s):
            form = await parser.parse_all()
    except MultiPartException as error:
        raise _form_error(error.message, max_files) from None
    except ValueError:  # names in a broken encoding
        raise RequestError("malformed_multipart", "A part's header cannot be read.") from None
    except TimeoutError:
        raise DeadlineError(f"The body did not arrive within {deadline_s:g} s.") from None
    except OSError as error:  # a temporary file could not be written
        raise StorageFullError("There is no space for the upload.") from error
    try:
        images: list[UploadFile] = []
        texts: list[bytes] = []
        for name, value in form.multi_items():
            if name == "image" and isinstance(value, UploadFile):
                images.append(value)
            elif name == "image":
                raise invalid_at("/image", "part", "must be a file: curl -F image=@picture.jpg")
            elif name != document:
                expected = "image" if document is None else f"image and {document}"
                raise invalid_at("/", "part", f"parts are named {expected}")
            elif isinstance(value, UploadFile):
                texts.append(await value.read(FIELD_MAX_BYTES + 1))
            else:
                texts.append(value.encode("utf-8", "replace"))
        if len(images) > max_files:
            raise _form_error("Too many files", max_files)
        if len(texts) > 1:
            raise invalid_at(f"/{document}", "part", "may stand only once")
        if texts and len(texts[0]) > FIELD_MAX_BYTES:
            raise _form_error("Part exceeded", max_files)
        yield Form(images, texts[0] if texts else None)
    finally:
        await form.close()


async def read_json(
    request: Request,
    kind: type[T],
    *,
    deadline_s: float,
    max_bytes: int = JSON_MAX_BYTES,
    max_values: int = JSON_MAX_VALUES,
) -> T:
    """Receive and check a JSON body.

    Args:
        max_bytes, max_values: no body that says what it should has more.

    Raises:
        RequestError, DeadlineError
    """
    body = await read_body(request, JSON_TYPES, deadline_s=deadline_s, max_bytes=max_bytes)
    return cast(T, await _parse(kind, body, max_values))


async def read_body(
    request: Request, accepted: Sequence[str], *, deadline_s: float, max_bytes: int
) -> bytearray:
    """Receive a body of one of some media types.

    Args:
        deadline_s: from now on.

    Raises:
        RequestError, DeadlineError
    """
    body = bytearray()
    async for piece in _pieces(request, accepted, deadline_s, max_bytes, 0):
        body += piece
    return body


@asynccontextmanager
async def read_file(
    request: Request, accepted: Sequence[str], *, deadline_s: float, max_bytes: int
) -> AsyncIterator[BinaryIO]:
    """Receive a body as read_body does, into a file that lasts as long as the context.

    Raises:
        StorageFullError: there is no space for it.
        RequestError, DeadlineError
    """
    with TemporaryFile() as file:
        try:
            async for piece in _pieces(request, accepted, deadline_s, max_bytes, WRITTEN_AT_ONCE):
                await anyio.to_thread.run_sync(file.write, piece)
            file.seek(0)
        except OSError as error:
            raise StorageFullError("There is no space for the upload.") from error
        yield cast(BinaryIO, file)


async def _pieces(
    request: Request, accepted: Sequence[str], deadline_s: float, max_bytes: int, at_once: int
) -> AsyncIterator[bytearray]:
    """A body in pieces of about so many bytes; raises as read_body does."""
    if media_type(request) not in accepted:
        raise RequestError("unsupported_media_type", f"Send {accepted[0]}.")
    announced = request.headers.get("content-length", "0")
    if announced.isascii() and announced.isdigit() and int(announced) > max_bytes:
        raise _body_too_large(max_bytes)
    piece, received = bytearray(), 0
    stream = aiter(request.stream())
    ends_at = time.monotonic() + deadline_s
    while True:
        try:
            async with asyncio.timeout(ends_at - time.monotonic()):
                chunk = await anext(stream, None)
        except TimeoutError:
            raise DeadlineError(f"The body did not arrive within {deadline_s:g} s.") from None
        if chunk is None:
            yield piece
            return
        received += len(chunk)
        if received > max_bytes:
            raise _body_too_large(max_bytes)
        piece += chunk
        if len(piece) >= at_once:
            yield piece
            piece = bytearray()


@asynccontextmanager
async def read_form_or_json(
    request: Request,
    kind: type[T],
    *,
    max_files: int,
    deadline_s: float,
    expected: str,
    picture_max_bytes: int,
) -> AsyncIterator[tuple[T | None, list[BinaryIO]]]:
    """Receive a JSON body, or a form with `image` files and the same JSON as its part `request`.

    Args:
        expected: the message when the body is neither.
        picture_max_bytes: the JSON body may hold a picture of this size, in base64.

    Returns:
        The JSON, None for a form without it; and the files, which are deleted with the context.

    Raises:
        RequestError, DeadlineError
    """
    sent = media_type(request)
    if sent == "application/json":
        max_bytes = JSON_MAX_BYTES + picture_max_bytes * 4 // 3
        body = await read_body(request, JSON_TYPES, deadline_s=deadline_s, max_bytes=max_bytes)
        yield cast(T, await _parse(kind, body, JSON_MAX_VALUES, pictures=True)), []
        return
    if sent != "multipart/form-data":
        raise RequestError("unsupported_media_type", expected)
    async with read_form(
        request, document="request", max_files=max_files, deadline_s=deadline_s
    ) as form:
        wanted: T | None = None
        if form.document is not None:
            wanted = await _parse(kind, form.document, JSON_MAX_VALUES)
        yield wanted, [upload.file for upload in form.images]


async def _parse(
    kind: Any, body: bytes | bytearray, max_values: int, *, pictures: bool = False
) -> Any:
    """parse_json off the event loop; of large bodies one at a time, for each takes memory.

    Args:
        pictures: long ones are taken out first; the rest has at most JSON_MAX_BYTES.
    """

    def parse() -> Any:
        if not pictures:
            return parse_json(kind, body, max_values)
        rest, texts = take_long_texts(body)
        if len(rest) > JSON_MAX_BYTES:
            raise _body_too_large(JSON_MAX_BYTES)
        return parse_json(kind, rest, max_values, texts)

    if len(body) < SMALL_BYTES:
        return await anyio.to_thread.run_sync(parse)
    try:
        turn = _large_one.get()
    except LookupError:  # the first one of this event loop
        turn = anyio.Semaphore(1)
        _large_one.set(turn)
    async with turn:
        with not_collected():
            return await anyio.to_thread.run_sync(parse)


def parse_json(
    kind: Any,
    body: bytes | bytearray,
    max_values: int = JSON_MAX_VALUES,
    context: Mapping[str, str] | None = None,
) -> Any:
    """A document checked against a pydantic model or type.

    Args:
        context: of validation.

    Raises:
        RequestError: body_too_large when it has more values than any document that says what it
            should; malformed_body when it is not one JSON document with unique names;
            validation_failed when it does not say what it should.
    """
    # Each value takes a hundred bytes of memory, so they are counted before there are any.
    if sum(body.count(mark) for mark in (b",", b"[", b"{")) > max_values:
        raise RequestError(
            "body_too_large",
            f"The document has more than {max_values} commas and brackets.",
            limits={"max_values": max_values},
        )
    try:
        json.loads(body.decode(), object_pairs_hook=_unique_names)
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            return kind.model_validate_json(body, context=context)
        return TypeAdapter(kind).validate_json(body, context=context)
    except ValidationError as error:
        raise validation_error(error.errors(include_input=False, include_url=False)) from None
    except (ValueError, RecursionError):
        raise RequestError(
            "malformed_body",
            "The body is not one valid JSON document in UTF-8, each name once and no more than "
            f"{MOST_NAMES} in one object.",
        ) from None


def check(kind: type[Checked], content: Mapping[str, object]) -> Checked:
    """Check Python values against a model.

    Raises:
        RequestError: validation_failed.
    """
    try:
        return kind.model_validate(dict(content))
    except ValidationError as error:
        raise validation_error(error.errors(include_input=False, include_url=False)) from None


async def while_connected(request: Request, work: Awaitable[T]) -> T:
    """Wait for work as long as the client does; the body must have been received.

    Raises:
        ClientDisconnect: the client went away; the work is cancelled.
    """
    task = asyncio.ensure_future(work)
    watch = asyncio.ensure_future(_disconnected(request))
    try:
        await asyncio.wait({task, watch}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise ClientDisconnect
        return task.result()
    finally:
        for each in (task, watch):
            each.cancel()
        await asyncio.gather(task, watch, return_exceptions=True)


def refuse_unknown_parameters(request: Request) -> None:
    """Refuse query parameters that the route's OpenAPI entry does not name.

    Raises:
        RequestError: validation_failed; to ignore a misspelt parameter would change the answer.
    """
    paths = request.app.openapi()["paths"]
    operation = paths[request.scope["route"].path][request.method.lower()]
    known = {one["name"] for one in operation.get("parameters", []) if one["in"] == "query"}
    if not set(request.query_params) <= known:
        listed = ", ".join(sorted(known)) or "none"
        raise RequestError("validation_failed", f"/query: the parameters here are {listed}.")


def deadline_of(request: Request, most_s: float) -> float:
    """Seconds that are left for a request: of the setting, or of X-Timeout-Ms where that is less.

    They count from the end of the request's head.

    Raises:
        RequestError: the header is not a number of milliseconds.
    """
    header = request.headers.get("x-timeout-ms")
    if header is not None:
        if not (header.isascii() and header.isdigit() and 0 < len(header) <= 9 and int(header) > 0):
            raise RequestError("validation_failed", "X-Timeout-Ms: expected whole milliseconds.")
        most_s = min(most_s, int(header) / 1000)
    started_at: float = request.scope["state"]["started_at"]
    return max(0.0, most_s - (time.monotonic() - started_at))


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _unique_names(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs) or len(pairs) > MOST_NAMES:
        raise ValueError("a name stands twice, or there are too many")
    return content


def _body_too_large(max_bytes: int) -> RequestError:
    return RequestError(
        "body_too_large",
        f"A body of this kind has at most {max_bytes} bytes.",
        limits={"max_body_bytes": max_bytes},
    )


def _form_error(message: str, max_files: int) -> RequestError:
    """Starlette tells its limits apart only by message."""
    if message.startswith("Too many files"):
        return RequestError(
            "too_many_files",
            f"More than {max_files} files in one request.",
            limits={"max_files": max_files},
        )
    if message.startswith("Part exceeded"):
        return RequestError(
            "body_too_large",
            f"A part that is not a file has more than {FIELD_MAX_BYTES} bytes.",
            limits={"max_part_bytes": FIELD_MAX_BYTES},
        )
    return RequestError("malformed_multipart", "The multipart body cannot be read.")
