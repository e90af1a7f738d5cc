"""Connections, before there is a request: how many there may be, and what a head may be.

uvicorn with httptools reads heads of any size, waits for them for ever, and takes as many
connections as there are descriptors. The limits here are for all connections of one server
together, or for one request; none looks at what the request is.
"""

import asyncio
import json
import resource
from http import HTTPStatus
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from indexer.ids import new_id
from service.http.errors import RequestError, problem
from service.settings import SettingsError

HEAD_MAX_BYTES = 64 * 2**10
HEAD_MAX_HEADERS = 128
HEAD_S = 10.0
MOST_PIPELINED = 16
SEND_CHECK_S = 30.0
SEND_LEAST_BYTES = 128 * 2**10  # in that time
CONNECTIONS_MOST = 1000  # unless a setting says more
DESCRIPTORS_LEFT = 200  # for the database, the index, uploads, and connections that wait


class _HeadError(Exception):
    """A head, or what follows a body, is too long; goes through httptools to `data_received`."""


def most_connections(wanted: int) -> int:
    """How many connections there may be at once.

    Args:
        wanted: 0 for half as many as files may be open, at most CONNECTIONS_MOST.

    Raises:
        SettingsError: the process may not open as many files.
    """
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if wanted == 0:
        return max(1, min(files // 2, CONNECTIONS_MOST))
    if wanted > files - DESCRIPTORS_LEFT:
        raise SettingsError(
            f"connections_max: {wanted} connections and {DESCRIPTORS_LEFT} files are more than the "
            f"{files} files that the process may open (ulimit -n)"
        )
    return wanted


def guarded_protocol(*, most: int, head_s: float = HEAD_S) -> type[HttpToolsProtocol]:
    """The `http` of a uvicorn.Config with these limits.

    A connection more than may be takes the place of the one that has been idle, or sending its
    head, for longest; then of the one that has been sending its body for longest. If all wait for
    answers, it is answered 503 and closed.

    Args:
        most: connections at once.
        head_s: from a connection's, or a further request's, first byte to the end of its head.
    """
    silent: dict[HttpToolsProtocol, None] = {}  # without the whole head of a request, oldest first
    sending: dict[HttpToolsProtocol, None] = {}  # without the whole body

    class GuardedProtocol(HttpToolsProtocol):
        """One connection."""

        def __init__(self, *arguments: Any, **options: Any) -> None:
            super().__init__(*arguments, **options)
            self._quiet_bytes = 0  # since the last part of a body, or end of a head
            self._head_bytes = 0
            self._pieces: list[bytes] = []
            self._in_body = False
            self._too_long = False
            self._head_timer: asyncio.TimerHandle | None = None
            self._send_timer: asyncio.TimerHandle | None = None

        # --- coming and going

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
            if len(self.connections) >= most and not self._make_room():
                super().connection_made(transport)
                self._refuse(RequestError("overloaded", f"{most} connections are open already."))
                return
            super().connection_made(transport)
            self._await_head()

        def _make_room(self) -> bool:
            for waiting in (silent, sending):
                oldest = next(iter(waiting), None)
                if oldest is not None:
                    del waiting[oldest]
                    self.connections.discard(oldest)
                    oldest.transport.abort()
                    return True
            return False

        def connection_lost(self, exc: Exception | None) -> None:
            silent.pop(self, None)
            sending.pop(self, None)
            self._stop_timers()
            super().connection_lost(exc)

        def _stop_timers(self) -> None:
            for timer in (self._head_timer, self._send_timer):
                if timer is not None:
                    timer.cancel()
            self._head_timer = self._send_timer = None

        # --- the head

        def _await_head(self) -> None:
            silent[self] = None
            self._head_timer = self.loop.call_later(head_s, self._late)

        def _late(self) -> None:
            self._head_timer = None
            if self._quiet_bytes:
                self._refuse(
                    RequestError("head_timeout", f"The head did not arrive within {head_s:g} s.")
                )
            else:
                self.transport.close()

        def data_received(self, data: bytes) -> None:
            if self.transport.is_closing():
                return
            self._quiet_bytes += len(data)
            idle = self.cycle is None or self.cycle.response_complete
            if idle and self._head_timer is None:
                self._await_head()
            super().data_received(data)
            self._pass_body_on()
            if self._quiet_bytes > HEAD_MAX_BYTES and not self.transport.is_closing():
                self._refuse(_too_long())

        def on_message_begin(self) -> None:
            if len(self.pipeline) >= MOST_PIPELINED:
                raise _HeadError
            self._head_bytes = 0
            super().on_message_begin()

        def on_url(self, url: bytes) -> None:
            self._count(len(url))
            super().on_url(url)

        def on_header(self, name: bytes, value: bytes) -> None:
            self._count(len(name) + len(value))
            if self._in_body:
                return  # a trailer: what comes after the body is no header
            if len(self.headers) >= HEAD_MAX_HEADERS:
                self._too_long = True
                raise _HeadError
            super().on_header(name, value)

        def _count(self, size: int) -> None:
            self._head_bytes += size
            if self._head_bytes > HEAD_MAX_BYTES:
                self._too_long = True
                raise _HeadError

        def on_headers_complete(self) -> None:
            self._quiet_bytes = 0
            self._in_body = True
            silent.pop(self, None)
            sending[self] = None
            if self._head_timer is not None:
                self._head_timer.cancel()
                self._head_timer = None
            super().on_headers_complete()

        # --- the body

        def on_body(self, body: bytes) -> None:
            # uvicorn copies all that it has of a body for each piece, and a piece may be a byte.
            self._quiet_bytes = 0
            self._pieces.append(body)

        def _pass_body_on(self) -> None:
            if self._pieces:
                body = b"".join(self._pieces)
                self._pieces.clear()
                super().on_body(body)

        def on_message_complete(self) -> None:
            self._pass_body_on()
            self._quiet_bytes = 0
            self._in_body = False
            sending.pop(self, None)
            super().on_message_complete()

        # --- answers

        def on_response_complete(self) -> None:
            super().on_response_complete()
            if not self.pipeline and not self._in_body and not self.transport.is_closing():
                silent[self] = None  # kept alive: uvicorn's own timer closes it

        def pause_writing(self) -> None:
            super().pause_writing()
            self._watch_sending(self.transport.get_write_buffer_size())

        def resume_writing(self) -> None:
            super().resume_writing()
            if self._send_timer is not None:
                self._send_timer.cancel()
                self._send_timer = None

        def _watch_sending(self, left: int) -> None:
            def check() -> None:
                still = self.transport.get_write_buffer_size()
                if left - still < SEND_LEAST_BYTES:
                    self.transport.abort()
                else:
                    self._watch_sending(still)

            self._send_timer = self.loop.call_later(SEND_CHECK_S, check)

        def send_400_response(self, msg: str) -> None:
            malformed = RequestError("malformed_request", "This is no HTTP/1.1 request.")
            self._refuse(_too_long() if self._too_long else malformed)

        def _refuse(self, error: RequestError) -> None:
            """Answer, unless another answer is under way, and close."""
            silent.pop(self, None)
            sending.pop(self, None)
            if self.cycle is None or self.cycle.response_complete:
                content = problem(error, instance="", request_id=new_id("req_"))
                body = json.dumps(content).encode()
                status = HTTPStatus(content["status"])
                head = (
                    f"HTTP/1.1 {status.value} {status.phrase}\r\n"
                    "content-type: application/problem+json\r\n"
                    f"content-length: {len(body)}\r\nconnection: close\r\n\r\n"
                )
                self.transport.write(head.encode() + body)
            self.transport.close()

    return GuardedProtocol


def _too_long() -> RequestError:
    return RequestError(
        "head_too_large",
        f"A request's head has at most {HEAD_MAX_BYTES} bytes and {HEAD_MAX_HEADERS} headers.",
        limits={"max_head_bytes": HEAD_MAX_BYTES, "max_headers": HEAD_MAX_HEADERS},
    )
