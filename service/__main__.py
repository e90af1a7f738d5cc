"""python -m service: serve the gallery over HTTP until SIGTERM or SIGINT."""

if __name__ == "__main__":
    from models.command import run

    run("service.__main__")

import argparse
import asyncio
import errno
import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import Any, Literal

import uvicorn
from fastapi import FastAPI
from pydantic import ValidationError

from models.command import command
from models.detector import Detector
from models.errors import PersonSearchError
from service.app import create_app
from service.http import garbage
from service.http.connections import guarded_protocol, most_connections
from service.settings import Settings, SettingsError

WRONG_SETTINGS = 2
CANNOT_START = 1
LAST_S = 4.0

logger = logging.getLogger("service")


class CannotListenError(PersonSearchError):
    """The address is in use, not allowed, or not one of this machine."""

    code = "internal"

    def __init__(self, host: str, port: int, error: OSError) -> None:
        number = error.errno or 0
        reason = os.strerror(number) if number > 0 else str(error.strerror or error)
        if number == errno.EADDRINUSE:
            reason = "it is in use; --port takes another one"
        super().__init__(f"cannot listen on port {port} of {host}: {reason}")


class Server(uvicorn.Server):
    """uvicorn that ends as services should: exit code 0 after a signal, at once after two.

    Whatever runs, the process has ended LAST_S after the drain time. What was given up then is on
    disk whole or not at all, as after a crash.
    """

    def __init__(self, config: uvicorn.Config, app: FastAPI, *, drain_s: float) -> None:
        super().__init__(config)
        self._application = app
        self._drain_s = drain_s

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """As uvicorn does, but without raising the signals again at the end."""
        signals = (signal.SIGINT, signal.SIGTERM)
        before = {each: signal.signal(each, self.handle_exit) for each in signals}
        try:
            yield
        finally:
            for each, handler in before.items():
                signal.signal(each, handler)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """First signal: finish what runs. Second: now."""
        self.force_exit = self.should_exit
        if not self.should_exit:
            last = threading.Timer(self._drain_s + LAST_S, _end_now)
            last.daemon = True
            last.start()
        self.should_exit = True

    async def startup(self, sockets: Any = None) -> None:
        """As uvicorn does, and say where to go."""
        try:
            await super().startup(sockets)
        except OSError as error:  # another service that started meanwhile was quicker
            raise CannotListenError(self.config.host, self.config.port, error) from error
        if self.started:
            logger.info(
                "listening on http://%s:%d, a page to search with at /, documentation at /docs",
                self.config.host,
                self.config.port,
            )

    async def shutdown(self, sockets: Any = None) -> None:
        """Give running work its time; then what still waits is answered 503 shutting_down.

        A job that runs ends at its next step, and goes on after the next start.
        """
        parts = self._application.state.parts
        parts.jobs.stop()
        loop = asyncio.get_running_loop()
        timers = [
            loop.call_later(self._drain_s, parts.worker.refuse),
            loop.call_later(self._drain_s + 1, parts.worker.abandon),
        ]
        await super().shutdown(sockets)
        for timer in timers:
            timer.cancel()


def _end_now() -> None:
    logger.error("something still runs after the drain time; it is given up")
    logging.shutdown()
    os._exit(0)


async def serve(
    settings: Settings,
    detector: Detector | None = None,
    other_detectors: Sequence[Detector] = (),
) -> None:
    """Open everything, serve, close everything.

    Raises:
        PersonSearchError: something hinders the start.
    """
    sockets = await bind(settings.host, settings.port)
    app = create_app(settings, detector, other_detectors=other_detectors)
    # The lifespan is entered here, so that what hinders the start is one clear line.
    config = server_config(app, settings, lifespan="off")
    async with app.router.lifespan_context(app):
        garbage.freeze()
        await Server(config, app, drain_s=settings.drain_s).serve(sockets)


def server_config(
    app: FastAPI, settings: Settings, *, lifespan: Literal["on", "off"]
) -> uvicorn.Config:
    """How uvicorn serves the application.

    Raises:
        SettingsError: there may not be as many connections.
    """
    most = most_connections(settings.connections_max)
    return uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        http=guarded_protocol(most=most),
        ws="none",
        backlog=max(16, most // 4),  # so many are accepted at once, before the limit is looked at
        lifespan=lifespan,
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=bool(settings.trusted_proxies),
        forwarded_allow_ips=settings.trusted_proxies,
        timeout_graceful_shutdown=int(settings.drain_s) + 2,
    )


async def bind(host: str, port: int) -> list[socket.socket]:
    """A socket for each address of a host: taken, and not listening yet.

    Raises:
        CannotListenError: one of them cannot be taken.
    """
    loop = asyncio.get_running_loop()
    try:
        server = await loop.create_server(asyncio.Protocol, host, port, start_serving=False)
    except OSError as error:
        raise CannotListenError(host, port, error) from error
    sockets = [each.dup() for each in server.sockets]
    server.close()
    return sockets


@command
def main(
    arguments: list[str] | None = None,
    detector: Detector | None = None,
    other_detectors: Sequence[Detector] = (),
) -> int:
    """Run; the exit code is 0 after a signal, 2 for wrong settings, 1 when it cannot start.

    Args:
        detector, other_detectors: as create_app takes them.
    """
    parser = argparse.ArgumentParser(prog="python -m service", description=__doc__)
    parser.add_argument("--host", help="address to listen on (default 127.0.0.1)")
    parser.add_argument("--port", type=int, help="port to listen on (default 8000)")
    parser.add_argument("--data-dir", help="where the gallery is kept (default ./data)")
    parser.add_argument("--root-path", help="path below which a proxy publishes it (default none)")
    parser.add_argument("--model", help="model directory (default: the one in the package)")
    given = {k: v for k, v in vars(parser.parse_args(arguments)).items() if v is not None}
    try:
        settings = Settings(**given)
        settings.read_keys()
    except ValidationError as error:
        for each in error.errors(include_input=False, include_url=False):
            name = "_".join(str(step) for step in each["loc"]) or "settings"
            print(f"error: {name}: {each['msg'].removeprefix('Value error, ')}", file=sys.stderr)
        return WRONG_SETTINGS
    except SettingsError as error:
        print(f"error: {error}", file=sys.stderr)
        return WRONG_SETTINGS
    logging.basicConfig(
        level=logging.WARNING,  # of libraries; ours say more
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
        stream=sys.stderr,
    )
    for name in ("service", "indexer", "models"):
        logging.getLogger(name).setLevel(settings.log_level.upper())
    try:
        asyncio.run(serve(settings, detector, other_detectors))
    except PersonSearchError as error:
        print(f"error: {error}", file=sys.stderr)
        return CANNOT_START
    except OSError as error:
        print(f"error: {settings.data_dir}: {error}", file=sys.stderr)
        return CANNOT_START
    return 0
