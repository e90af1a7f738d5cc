"""python -m service.bench.large_bodies: how long others wait while large and odd bodies come in.

Starts the service in a child process on a free loopback port. Each kind of body is sent again and
again for some seconds, while another process asks for /livez every 10 ms: its p99 is what promises
are about. Prints a table, then one JSON object as the last line.
"""

if __name__ == "__main__":
    from models.command import run

    run("service.bench.large_bodies")

import argparse
import base64
import json
import multiprocessing
import os
import socket
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from multiprocessing.synchronize import Event
from pathlib import Path
from queue import Queue
from urllib.parse import urlsplit

import numpy as np

from models.command import command
from service.demo.local import running_service

EVERY_S = 0.01
MIB = 2**20
ID = "01JD5T6Q0Z8W3V7X9Y2K4M6N8P"


@command
def main(arguments: list[str] | None = None) -> int:
    """Measure."""
    parser = argparse.ArgumentParser(prog="python -m service.bench.large_bodies")
    parser.add_argument("--seconds", type=float, default=5, help="for each kind of body (5)")
    parser.add_argument("--only", default="", metavar="TEXT", help="kinds with this in their name")
    options = parser.parse_args(arguments)
    measured: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        os.environ["PERSON_SEARCH_IMPORT_DIR"] = folder
        data = Path(folder) / "data"
        with running_service(data_dir=data) as base_url:
            port = urlsplit(base_url).port or 80
            for name, make in KINDS.items():
                if options.only in name:
                    measured[name] = measure(port, make(), options.seconds)
                    row = "".join(f"{value:>10.0f}" for value in measured[name].values())
                    if len(measured) == 1:
                        print(f"{'':<44}" + "".join(f"{head:>10}" for head in measured[name]))
                    print(f"{name:<44}{row}", flush=True)
    print(json.dumps(measured))
    return 0


def measure(port: int, request: "Request", seconds: float) -> dict[str, float]:
    """Send a request again and again: waits for /livez meanwhile, in ms, and the last status."""
    context = multiprocessing.get_context("spawn")
    ended, waits = context.Event(), context.Queue()
    probe = context.Process(target=_probe, args=(port, ended, waits))
    probe.start()
    waits.get()  # it has begun
    sent, took, status = 0, 0.0, 0
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        begun = time.monotonic()
        status = request.send(port)
        took += time.monotonic() - begun
        sent += 1
    ended.set()
    found = np.array(waits.get()) * 1e3
    probe.join()
    return {
        "livez p50": float(np.percentile(found, 50)),
        "p99": float(np.percentile(found, 99)),
        "worst": float(found.max()),
        "sent": sent,
        "each ms": took / sent * 1e3,
        "status": status,
    }


def _probe(port: int, ended: Event, waits: "Queue[list[float]]") -> None:
    """Ask for /livez at fixed times; who asks late for want of an answer has waited since then."""
    found: list[float] = []
    with socket.create_connection(("127.0.0.1", port)) as connection:
        waits.put([])
        due = time.monotonic()
        while not ended.is_set():
            connection.sendall(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n")
            connection.recv(65536)
            found.append(time.monotonic() - due)
            due += EVERY_S
            time.sleep(max(0.0, due - time.monotonic()))
    waits.put(found)


class Request:
    """A request, of which the body may come in pieces."""

    def __init__(self, path: str, media: str, body: bytes, *, chunk: int | None = None) -> None:
        """
        Args:
            chunk: send the body with chunked encoding, in chunks of so many bytes.
        """
        how = f"Content-Length: {len(body)}" if chunk is None else "Transfer-Encoding: chunked"
        self._head = (
            f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {media}\r\n{how}\r\n"
            "Connection: close\r\n\r\n"
        ).encode()
        self._body = body if chunk is None else b"".join(_chunks(body, chunk))

    def send(self, port: int) -> int:
        """The status of the answer."""
        with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
            with suppress(OSError):  # answered before all was sent
                connection.sendall(self._head + self._body)
            answer = connection.recv(65536)
        return int(answer[9:12] or b"0")


def _chunks(body: bytes, size: int) -> Iterator[bytes]:
    for start in range(0, len(body), size):
        piece = body[start : start + size]
        yield f"{len(piece):x}\r\n".encode() + piece + b"\r\n"
    yield b"0\r\n\r\n"


def _manifest(line: bytes) -> Request:
    return Request("/gallery/imports", "application/jsonl", line * (63 * MIB // len(line)))


def _search(picture: bytes) -> Request:
    text = base64.b64encode(picture).decode()
    body = json.dumps({"queries": [{"image_base64": text, "crop": True}]}).encode()
    return Request("/search", "application/json", body)


def _evaluation(query: str, size: int) -> Request:
    queries = ",".join([query] * (size // (len(query) + 1)))
    body = f'{{"protocol":{{"queries":[{queries}]}}}}'.encode()
    return Request("/evaluations", "application/json", body)


def _form(name: str, content: bytes, size: int) -> Request:
    head = f'--b\r\nContent-Disposition: form-data; name="{name}"'
    head += '; filename="x"\r\n\r\n' if name == "image" else "\r\n\r\n"
    body = head.encode() + content * (size // len(content)) + b"\r\n--b--\r\n"
    return Request("/gallery/images", "multipart/form-data; boundary=b", body)


QUERY = f'{{"image_id":"img_{ID}","box":{{"x1":0,"y1":0,"x2":9,"y2":9}},' + (
    f'"holds":[{{"image_id":"img_{ID}"}}]}}'
)
KINDS: dict[str, Callable[[], Request]] = {
    "nothing": lambda: Request("/search", "application/json", b"{}"),
    "manifest, 63 MiB in one line": lambda: _manifest(b"x"),
    "manifest, 63 MiB of lines": lambda: _manifest(b'{"file":"%s.jpg"}\n' % (b"x" * 60)),
    "manifest, 63 MiB of empty lines": lambda: _manifest(b"\n"),
    "search, 26 MiB of base64, no picture": lambda: _search(b"x" * (26 * MIB * 3 // 4)),
    "search, 26 MiB of base64, wrong at its end": lambda: Request(
        "/search",
        "application/json",
        b'{"queries":[{"image_base64":"' + b"x" * (26 * MIB) + b'*"}]}',
    ),
    "search, 1 MiB of {}": lambda: Request(
        "/search", "application/json", b'{"queries":[' + b"{}," * (MIB // 3 - 9) + b"{}]}"
    ),
    "evaluation, 1 MiB of {}": lambda: _evaluation("{}", MIB),
    "evaluation, 1 MiB of queries": lambda: _evaluation(QUERY, MIB),
    "evaluation, as many queries as may be": lambda: _evaluation(QUERY, 10_000 * len(QUERY)),
    "evaluation, as many places as may be": lambda: _evaluation(
        f'{{"image_id":"img_{ID}","box":{{"x1":0,"y1":0,"x2":9,"y2":9}},"holds":['
        + ",".join([f'{{"image_id":"img_{ID}"}}'] * 9000)
        + "]}",
        15 * MIB,
    ),
    "evaluation, 15 MiB in one text": lambda: _evaluation(
        '{"person":"' + "x" * MIB + '"}', 15 * MIB
    ),
    "1 MiB in chunks of a byte": lambda: Request(
        "/search", "application/json", b" " * (MIB - 9) + b"{}", chunk=1
    ),
    "picture, 63 MiB of zeros": lambda: _form("image", b"\0", 63 * MIB),
    "form, 250 KiB of metadata": lambda: _form("metadata", b"[{},", 250 * 2**10),
}
