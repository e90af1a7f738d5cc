"""What happens to every request, whatever its route: id, limits, headers, log, metrics."""

import ipaddress
import logging
import re
import time
from collections.abc import Awaitable, Callable, Collection, MutableMapping
from typing import Any, cast

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect, Request
from starlette.responses import RedirectResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from indexer.ids import new_id
from models.errors import PersonSearchError
from service.http.errors import RequestError, problem, problem_response
from service.http.metrics import Metrics

CLIENT_WENT_AWAY = 499
REQUEST_ID = re.compile(r"[A-Za-z0-9_.-]{1,64}")
HOST = re.compile(r"(?P<name>[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?")
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
NO_FRAMES = "frame-ancestors 'none'"
HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "X-Frame-Options": "DENY",
    "Cache-Control": "no-store",
    "Content-Security-Policy": f"default-src 'none'; {NO_FRAMES}",
}

logger = logging.getLogger("service")


class Edge:
    """ASGI middleware around the whole application."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        metrics: Metrics,
        max_body_bytes: int,
        loopback_only: Callable[[], bool],
        origins: Collection[str] = (),
        frame_ancestors: str = "",
        root_path: str = "",
    ) -> None:
        """Wrap an application.

        Args:
            loopback_only: whether, now, only requests for this machine's own names are answered,
                and changes only from its own pages. Without API keys, this keeps web sites that a
                user visits from using the service through the browser.
            origins: of other sites whose pages may make changes nevertheless.
            frame_ancestors: sites that may show pages in a frame, as CSP lists them; "" is none.
            root_path: what a proxy has before all paths, whether it takes it away or not.
        """
        self._app = app
        self._metrics = metrics
        self._max_body_bytes = max_body_bytes
        self._loopback_only = loopback_only
        self._origins = frozenset(origins)
        self._frame_ancestors = frame_ancestors
        self._root_path = root_path

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        scope = self._below_root(scope)
        headers = Headers(scope=scope)
        given = headers.get("x-request-id", "")
        request_id = given if REQUEST_ID.fullmatch(given) else new_id("req_")
        started = time.perf_counter()
        state = scope.setdefault("state", {})
        state["request_id"], state["started_at"] = request_id, time.monotonic()
        response = _Response(send, request_id, self._frame_ancestors, self._root_path)
        status: int | None = None
        try:
            self._check(scope, headers)
            limited = _Limited(receive, self._max_body_bytes)
            await self._answer(scope, limited, response)
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

    async def _answer(self, scope: Scope, receive: Receive, response: "_Response") -> None:
        """Let the application answer; HEAD as it answers GET, but for the body.

        The answer to HEAD is complete with its head: a body that has no end is given up, as it is
        when the client goes away.
        """
        if scope["path"] == self._root_path != "":
            await RedirectResponse(f"{self._root_path}/")(scope, receive, response.send)
            return
        if scope["method"] != "HEAD":
            await self._app(scope, receive, response.send)
            return
        complete = False

        async def send_head(message: MutableMapping[str, Any]) -> None:
            nonlocal complete
            if message["type"] == "http.response.body":
                if complete:
                    return
                complete = True
                message = {"type": "http.response.body", "body": b"", "more_body": False}
            await response.send(message)

        as_get = {**scope, "method": "GET"}
        try:
            await self._app(as_get, receive, send_head)
        finally:
            scope["route"] = as_get.get("route")

    def _below_root(self, scope: Scope) -> Scope:
        root = self._root_path
        if not root:
            return scope
        path = scope["path"]
        whole = path if path == root or path.startswith(f"{root}/") else root + path
        return {**scope, "path": whole, "root_path": root}

    def _check(self, scope: Scope, headers: Headers) -> None:
        hosts = headers.getlist("host")
        if len(hosts) > 1 or (not hosts and scope["http_version"] == "1.1"):
            raise RequestError("malformed_request", "Send one Host header.")
        host = HOST.fullmatch(hosts[0]) if hosts else None
        if hosts and host is None:
            raise RequestError("malformed_request", "The Host header is no name and port.")
        length = headers.get("content-length", "0")
        if length.isascii() and length.isdigit() and int(length) > self._max_body_bytes:
            raise _too_large(self._max_body_bytes)
        if not self._loopback_only():
            return
        own = {f"{scope['scheme']}://{name.lower()}" for name in hosts} | self._origins
        foreign = not {origin.lower() for origin in headers.getlist("origin")} <= own
        if (
            host is None
            or not _is_loopback(host["name"])
            or (foreign and scope["method"] not in SAFE_METHODS)
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

    def __init__(self, send: Send, request_id: str, frame_ancestors: str, root_path: str) -> None:
        self._send = send
        self._request_id = request_id
        self._frame_ancestors = frame_ancestors
        self._root_path = root_path
        self.status: int | None = None

    async def send(self, message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = MutableHeaders(scope=message)
            headers["X-Request-Id"] = self._request_id
            for name, value in HEADERS.items():
                headers.setdefault(name, value)
            if self._frame_ancestors:
                allowed = f"frame-ancestors {self._frame_ancestors}"
                policy = headers["Content-Security-Policy"].replace(NO_FRAMES, allowed)
                headers["Content-Security-Policy"] = policy
                del headers["X-Frame-Options"]  # which cannot name sites
            place = headers.get("Location", "")
            if place.startswith("/") and not place.startswith(f"{self._root_path}/"):
                headers["Location"] = self._root_path + place
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


def route_path(request: Request) -> str:
    """The path that a request's route has: without what a proxy has before it."""
    path: str = request.scope["path"]
    return path.removeprefix(request.scope.get("root_path", ""))


def _too_large(max_bytes: int) -> RequestError:
    return RequestError(
        "body_too_large",
        f"The body has more than {max_bytes} bytes.",
        limits={"max_body_bytes": max_bytes},
    )


def _is_loopback(name: str) -> bool:
    """Whether a host's name, or address, always means this machine."""
    try:
        return ipaddress.ip_address(name.strip("[]")).is_loopback
    except ValueError:
        return name.lower() == "localhost"
