"""A service of one's own on a loopback port, and a small client: for the demo and the benchmark."""

import http.client
import json
import os
import secrets
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from models.errors import PersonSearchError

START_TIMEOUT_S = 120
KEY_VARIABLE = "PERSON_SEARCH_KEY"


class LocalError(PersonSearchError):
    """The service could not be started, does not answer, or answered with a problem."""

    code = "internal"


class NoAnswerError(LocalError):
    """There is no service at this address, or it ended."""


class Client:
    """One connection to a service; not for several threads."""

    def __init__(self, base_url: str) -> None:
        """Connect when first needed; a secret in PERSON_SEARCH_KEY is sent as bearer.

        Raises:
            LocalError: the URL is not http://host[:port].
        """
        url = urlsplit(base_url)
        if url.scheme != "http" or not url.hostname or url.path not in ("", "/"):
            raise LocalError(f"expected http://host:port, got {base_url}")
        self._base_url = base_url
        self._connection = http.client.HTTPConnection(url.hostname, url.port or 80, timeout=180)
        secret = os.environ.get(KEY_VARIABLE)
        self._headers = {"Authorization": f"Bearer {secret}"} if secret else {}

    def get(self, path: str) -> Any:
        """The JSON answer.

        Raises:
            NoAnswerError: the service is not there.
            LocalError: it answers with a problem.
        """
        return self._answer("GET", path, None, {})

    def post(
        self,
        path: str,
        images: Sequence[bytes] = (),
        documents: Mapping[str, Any] | None = None,
    ) -> Any:
        """The JSON answer to a form with image files and JSON parts.

        Raises:
            NoAnswerError: the service is not there.
            LocalError: it answers with a problem.
        """
        boundary = secrets.token_hex(16)
        parts = [
            ('form-data; name="image"; filename="image"', "application/octet-stream", image)
            for image in images
        ] + [
            (f'form-data; name="{name}"', "application/json", json.dumps(document).encode())
            for name, document in (documents or {}).items()
        ]
        body = b"".join(
            f"--{boundary}\r\nContent-Disposition: {disposition}\r\n"
            f"Content-Type: {media}\r\n\r\n".encode()
            + content
            + b"\r\n"
            for disposition, media, content in parts
        )
        return self._answer(
            "POST",
            path,
            body + f"--{boundary}--\r\n".encode(),
            {"Content-Type": f"multipart/form-data; boundary={boundary}"},
        )

    def close(self) -> None:
        """End the connection."""
        self._connection.close()

    def _answer(
        self, method: str, path: str, body: bytes | None, headers: Mapping[str, str]
    ) -> Any:
        try:
            self._connection.request(method, path, body, {**self._headers, **headers})
            answer = self._connection.getresponse()
            content = answer.read()
        except (OSError, http.client.HTTPException) as error:
            self._connection.close()
            reason = error.strerror if isinstance(error, OSError) else None
            raise NoAnswerError(
                f"no service answers at {self._base_url}: {reason or error}"
            ) from error
        if answer.status >= 400:
            try:
                reason = json.loads(content)["detail"]
            except (ValueError, KeyError, TypeError):
                reason = f"status {answer.status}"
            raise LocalError(f"{method} {path}: {reason}")
        return json.loads(content)


@contextmanager
def running_service(
    command: Sequence[str] = ("-m", "service"), *, data_dir: Path | None = None
) -> Iterator[str]:
    """Start a service in a child process.

    Args:
        command: arguments of Python.
        data_dir: where its gallery is; by default an empty one that is deleted at the end.

    Yields:
        Its base URL, when it is ready.

    Raises:
        LocalError: it does not start; the message holds its last words.
    """
    environment = {
        name: value for name, value in os.environ.items() if "PERSON_SEARCH_API_KEYS" not in name
    }
    root = str(Path(__file__).parents[2])
    environment["PYTHONPATH"] = os.pathsep.join(
        [root, *filter(None, [environment.get("PYTHONPATH")])]
    )
    with tempfile.TemporaryDirectory(prefix="person-search-") as directory:
        port = _free_port()
        address = ["--host", "127.0.0.1", "--port", str(port)]
        log = Path(directory) / "log"
        data = data_dir or Path(directory) / "data"
        with log.open("wb") as output:
            child = subprocess.Popen(
                [sys.executable, *command, *address, "--data-dir", str(data)],
                stdout=output,
                stderr=output,
                env=environment,
            )
        try:
            base_url = f"http://127.0.0.1:{port}"
            _wait_until_ready(base_url, child, log)
            yield base_url
        finally:
            child.terminate()
            try:
                child.wait(timeout=40)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()


def _wait_until_ready(base_url: str, child: "subprocess.Popen[bytes]", log: Path) -> None:
    ends = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < ends:
        if child.poll() is not None:
            words = log.read_text(errors="replace").strip().splitlines()
            raise LocalError(f"the service did not start: {words[-1] if words else 'no reason'}")
        client = Client(base_url)
        try:
            client.get("/livez")
            return
        except LocalError:
            time.sleep(0.1)
        finally:
            client.close()
    raise LocalError(f"the service was not ready after {START_TIMEOUT_S} s")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
