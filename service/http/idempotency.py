"""Requests that may be sent again without being done again: the header Idempotency-Key."""

import hashlib
import json
import re
import threading
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, BinaryIO

import anyio.to_thread
from fastapi import Request
from starlette.responses import JSONResponse, Response

from indexer.errors import StorageFullError
from indexer.rows.replies import Reply, ReplyStore
from models.errors import PersonSearchError
from service.http.auth import key_owner
from service.http.edge import logger, request_id
from service.http.errors import PROBLEMS, RequestError, problem, problem_response

KEY = re.compile(r"[\x20-\x7e]{1,255}")
REPLAYED = {"Idempotency-Replayed": "true"}
# The OpenAPI description of the header; a route puts it among its parameters.
KEY_PARAMETER = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "description": "A name for this request, 1 to 255 printable characters. Sent again under the "
    "same name within 24 hours, a request gets the first answer and is not done "
    "twice.",
    "schema": {"type": "string", "minLength": 1, "maxLength": 255},
}


@dataclass(frozen=True)
class JsonAnswer:
    """What a route answers: JSON.

    Attributes:
        replay: whether the same request gets this answer again; not when trying again may help.
        stored: whether it is on disk already, written in the transaction of what it reports.
    """

    status: int
    content: Any
    headers: Mapping[str, str] = field(default_factory=dict)
    replay: bool = True
    stored: bool = False

    def response(self) -> JSONResponse:
        """As an HTTP response."""
        return JSONResponse(self.content, self.status, dict(self.headers))


@dataclass(frozen=True)
class KeyedRequest:
    """A request with an Idempotency-Key, of the API key with this ApiKey.owner."""

    owner: str
    key: str
    fingerprint: str

    @property
    def name(self) -> tuple[str, str]:
        """What tells it from other requests that run at the same time."""
        return self.owner, self.key

    def reply(self, response: Response) -> Reply:
        """An answer to it, to be stored."""
        headers = {
            name: value for name, value in response.headers.items() if name != "content-length"
        }
        return Reply(
            self.owner,
            self.key,
            self.fingerprint,
            response.status_code,
            headers,
            bytes(response.body),
        )


class Idempotency:
    """Does a request with an Idempotency-Key once, whichever service of the gallery it reaches."""

    def __init__(self, replies: ReplyStore) -> None:
        self._replies = replies
        self._lock = threading.Lock()
        self._running: dict[tuple[str, str], KeyedRequest] = {}

    async def answer_once(
        self,
        request: Request,
        fingerprint: Callable[[], str],
        work: Callable[[KeyedRequest | None], Awaitable[JsonAnswer]],
    ) -> Response:
        """Do a request's work, or give the first answer again when the same was sent before.

        Problems that trying again may help with are not stored, nor is an answer for which the disk
        has no space.

        Args:
            fingerprint: of what was sent; called on another thread.
            work: gets None when the caller sent no key.

        Raises:
            RequestError: validation_failed, idempotency_key_reused, idempotency_in_progress.
            Whatever the work raises.
        """
        key = idempotency_key(request)
        if key is None:
            return (await work(None)).response()
        keyed = KeyedRequest(
            key_owner(request) or "", key, await anyio.to_thread.run_sync(fingerprint)
        )
        with self._one_at_a_time(keyed):
            try:
                if not await anyio.to_thread.run_sync(self._replies.claim, *keyed.name):
                    raise _in_progress()
                return await self._answer(request, keyed, work)
            finally:
                with anyio.CancelScope(shield=True):
                    await anyio.to_thread.run_sync(self._replies.unclaim, *keyed.name)

    @contextmanager
    def _one_at_a_time(self, keyed: KeyedRequest) -> Iterator[None]:
        """A context in which this service answers no other request with the same key.

        Raises:
            RequestError: idempotency_in_progress or idempotency_key_reused, when one is answered.
        """
        with self._lock:
            running = self._running.setdefault(keyed.name, keyed)
        if running.fingerprint != keyed.fingerprint:
            raise _reused()
        if running is not keyed:
            raise _in_progress()
        try:
            yield
        finally:
            with self._lock:
                del self._running[keyed.name]

    async def _answer(
        self,
        request: Request,
        keyed: KeyedRequest,
        work: Callable[[KeyedRequest | None], Awaitable[JsonAnswer]],
    ) -> Response:
        before = await self._stored(keyed)
        if before is not None:
            return before
        try:
            answer = await work(keyed)
        except PersonSearchError as error:
            if not PROBLEMS[error.code].retryable and PROBLEMS[error.code].status < 500:
                before = await self._store(keyed, _problem_response(error, request))
                if before is not None:
                    return before
            raise
        response = answer.response()
        if answer.replay and not answer.stored:
            return await self._store(keyed, response) or response
        return response

    async def _stored(self, keyed: KeyedRequest) -> Response | None:
        """The answer that was given before; None when there is none.

        Raises:
            RequestError: idempotency_key_reused.
        """
        before = await anyio.to_thread.run_sync(self._replies.find, *keyed.name)
        if before is None:
            return None
        if before.fingerprint != keyed.fingerprint:
            raise _reused()
        return Response(before.body, before.status, {**before.headers, **REPLAYED})

    async def _store(self, keyed: KeyedRequest, response: Response) -> Response | None:
        """Store an answer, unless there is one already: that one is returned, and stands.

        There is one when the first client left, its work was done nevertheless, and it asked again
        before the work ended.
        """
        before = await self._stored(keyed)
        if before is None:
            try:
                await anyio.to_thread.run_sync(self._replies.store, keyed.reply(response))
            except StorageFullError:
                logger.warning("no space to store the answer to an Idempotency-Key")
        return before


def idempotency_key(request: Request) -> str | None:
    """The key that came with a request; None without the header.

    Raises:
        RequestError: it is not 1 to 255 printable characters, or stands twice.
    """
    given = request.headers.getlist("idempotency-key")
    if not given:
        return None
    if len(given) > 1 or not KEY.fullmatch(given[0]):
        raise RequestError(
            "validation_failed", "Idempotency-Key: expected 1 to 255 printable characters, once."
        )
    return given[0]


def fingerprint_of(request: Request, contents: Iterable[tuple[str, bytes]]) -> str:
    """SHA-256 (hex) of method, path, query, and each part's name and SHA-256 (32 bytes)."""
    query = sorted(request.query_params.multi_items())
    whole = hashlib.sha256(json.dumps([request.method, request.url.path, query]).encode())
    for name, digest in contents:
        whole.update(json.dumps(name).encode() + digest)
    return whole.hexdigest()


def digest_of(file: BinaryIO) -> bytes:
    """SHA-256 (32 bytes) of a file; rewinds it."""
    digest = hashlib.sha256()
    file.seek(0)
    while block := file.read(2**20):
        digest.update(block)
    file.seek(0)
    return digest.digest()


def _problem_response(error: PersonSearchError, request: Request) -> Response:
    content = problem(error, instance=request.url.path, request_id=request_id(request))
    return problem_response(content, error.headers if isinstance(error, RequestError) else {})


def _in_progress() -> RequestError:
    return RequestError(
        "idempotency_in_progress", "The first request with this key is not done yet."
    )


def _reused() -> RequestError:
    return RequestError(
        "idempotency_key_reused", "The key was sent before, with another request or another body."
    )
