"""What happens to every request, whatever its route: id, limits, headers, log, metrics."""

import logging
import re
import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, cast
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect, Request
from starlette.types import ASGIApp, Receive, Scope, Send

from indexer.ids import new_id
from models.errors import PersonSearchError
from service.http.errors import RequestError, problem, problem_response
from service.http.metrics import Metrics

CLIENT_WENT_AWAY = 499
REQUEST_ID = re.compile(r"[A-Za-z0-9_.-]{1,64}")
LOOPBACK_HOSTS = frozenset({"localhost", "127.0.0.1", "::1"})
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "X-Frame-Options": "DENY",
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
}

logger = logging.getLogger("service")


class Edge:
    """ASGI middleware around the whole application."""

    def __init__(
        self, app: ASGIApp, *, metrics: Metrics, max_body_bytes: int, loopback_only: bool
    ) -> None:
        """Wrap an application.

        Args:
            loopback_only: answer only requests for this machine's own names, and changes only
                from its own pages. Without API keys, this keeps web sites that a user visits
                from using the service through the browser.
        """
        self._app = app
        self._metrics = metrics
        self._max_body_bytes = max_body_bytes
        self._loopback_only = loopback_only

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        given = headers.get("x-request-id", "")
        request_id = given if REQUEST_ID.fullmatch(given) else new_id("req_")
        scope.setdefault("state", {})["request_id"] = request_id
        response = _Response(send, request_id)
        started = time.perf_counter()
        status: int | None = None
        try:
            self._check(scope, headers)
            limited = _Limited(receive, self._max_body_bytes)
            await self._app(scope, limited, response.send)
        except ClientDisconnect:
            status = CLIENT_WENT_AWAY
        except PersonSearchError as error:
            await self._refuse(error, scope, receive, response, request_id)
        except Exception:
            logger.exception("request %s failed", request_id)
            await self._refuse(RequestError("internal", ""), scope, receive, response, request_id)
        finally:
            seconds = time.perf_counter() - started
            route = getattr(scope.get("route"), "path", None)
            status = status or response.status or CLIENT_WENT_AWAY
            self._metrics.observe(
                method=scope["method"], route=route, status=status, seconds=seconds
            )
            logger.info(
                "%s %s %d %.1f ms %s",
                scope["method"] if route else "-",
                route or "unmatched",
                status,
                seconds * 1e3,
                request_id,
            )

    def _check(self, scope: Scope, headers: Headers) -> None:
        length = headers.get("content-length", "0")
        if length.isdigit() and int(length) > self._max_body_bytes:
            raise _too_large(self._max_body_bytes)
        if not self._loopback_only:
            return
        host = headers.get("host", "")
        origin = headers.get("origin")
        foreign = origin is not None and origin != f"{scope['scheme']}://{host}"
        if _host_name(host) not in LOOPBACK_HOSTS or (
            foreign and scope["method"] not in SAFE_METHODS
        ):
            raise RequestError(
                "foreign_origin",
                "Without API keys, only requests for localhost are answered, and changes only "
                "from its own pages.",
            )

    async def _refuse(
        self,
        error: PersonSearchError,
        scope: Scope,
        receive: Receive,
        response: "_Response",
        request_id: str,
    ) -> None:
        if response.status is not None:
            return  # too late: the answer is under way, and ends early
        content = problem(error, instance=scope["path"], request_id=request_id)
        self._metrics.problems.labels(error.code).inc()
        await problem_response(content)(scope, receive, response.send)


class _Response:
    """Adds headers to the answer and remembers its status."""

    def __init__(self, send: Send, request_id: str) -> None:
        self._send = send
        self._request_id = request_id
        self.status: int | None = None

    async def send(self, message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = MutableHeaders(scope=message)
            headers["X-Request-Id"] = self._request_id
            for name, value in HEADERS.items():
                headers.setdefault(name, value)
        await self._send(message)


class _Limited:
    """Counts what is received, whatever Content-Length says."""

    def __init__(
        self, receive: Callable[[], Awaitable[MutableMapping[str, Any]]], max_bytes: int
    ) -> None:
        self._receive = receive
        self._max_bytes = max_bytes
        self._received = 0

    async def __call__(self) -> MutableMapping[str, Any]:
        message = await self._receive()
        if message["type"] == "http.request":
            self._received += len(message.get("body", b""))
            if self._received > self._max_bytes:
                raise _too_large(self._max_bytes)
        return message


def request_id(request: Request) -> str:
    """The id that the edge gave, or took from X-Request-Id."""
    return cast(str, request.scope["state"]["request_id"])


def _too_large(max_bytes: int) -> RequestError:
    return RequestError(
        "body_too_large",
        f"The body has more than {max_bytes} bytes.",
        limits={"max_body_bytes": max_bytes},
    )


def _host_name(host: str) -> str:
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""
