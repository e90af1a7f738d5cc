"""What reaches the service before there is a request: heads, silence, floods of connections."""

import contextlib
import json
import resource
import socket
import threading
import time

import pytest
import uvicorn

from service.http import connections
from service.http.connections import (
    DESCRIPTORS_LEFT,
    HEAD_MAX_BYTES,
    HEAD_MAX_HEADERS,
    guarded_protocol,
    most_connections,
)
from service.settings import SettingsError
from service.tests.serving import served

HELLO = b"GET / HTTP/1.1\r\nHost: localhost\r\n"
HEAD_S = 0.4


async def echo(scope, receive, send):
    """Answers the headers that it got, and how many bytes."""
    size, more = 0, True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        size, more = size + len(message["body"]), message["more_body"]
    told = {"size": size, "headers": [name.decode() for name, _ in scope["headers"]]}
    content = json.dumps(told).encode() if scope["path"] != "/large" else bytes(30 * 2**20)
    length = str(len(content)).encode()
    await send(
        {"type": "http.response.start", "status": 200, "headers": [(b"content-length", length)]}
    )
    await send({"type": "http.response.body", "body": content})


@contextlib.contextmanager
def listening(most=20, head_s=HEAD_S):
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        http = guarded_protocol(most=most, head_s=head_s)
        config = uvicorn.Config(
            echo, http=http, ws="none", lifespan="off", log_config=None, timeout_keep_alive=1,
            timeout_graceful_shutdown=1,
        )  # fmt: skip
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        while not server.started:
            time.sleep(0.01)
        try:
            yield listener.getsockname()[1]
        finally:
            server.should_exit = True
            thread.join()


@pytest.fixture
def port():
    with listening() as port:
        yield port


def connect(port):
    connection = socket.create_connection(("127.0.0.1", port))
    connection.settimeout(20)
    return connection


def told(connection):
    """Status and JSON of one answer; (0, None) for a connection that was closed without one."""
    got = b""
    with contextlib.suppress(ConnectionError):
        while b"\r\n\r\n" not in got and (more := connection.recv(65536)):
            got += more
        head, _, body = got.partition(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0] or 0)
        while len(body) < length and (more := connection.recv(65536)):
            body += more
    if not got:
        return 0, None
    return int(got.split(b" ", 2)[1]), json.loads(body)


def asked(port, *pieces):
    with connect(port) as connection:
        with contextlib.suppress(ConnectionError):
            for piece in pieces:
                connection.sendall(piece)
        return told(connection)


@pytest.mark.parametrize(
    "head",
    [
        HELLO + b"a: " + b"b" * 2**23 + b"\r\n\r\n",
        HELLO + b"a" * 2**23 + b": b\r\n\r\n",
        HELLO + b"a: b\r\n" * 2**20 + b"\r\n",
        HELLO + b"a: b\r\n" * HEAD_MAX_HEADERS + b"\r\n",
        b"GET /?" + b"a" * 2**23 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
        HELLO + b"a: " + b"b" * HEAD_MAX_BYTES + b"\r\n\r\n",
    ],
    ids=["one value", "one name", "many", "one too many", "address", "a little too long"],
)
def test_a_head_beyond_its_limits_is_refused_before_it_is_read(port, head):
    status, content = asked(port, head)

    # A client that is still sending may see a closed connection in place of the answer.
    assert status in (431, 0)
    assert status == 0 or (content["status"], content["code"]) == (431, "head_too_large")
    assert len(head) > HEAD_MAX_BYTES * 2 or status == 431


def test_a_head_at_its_limits_is_read(port):
    size = HEAD_MAX_BYTES - 200
    status, content = asked(port, HELLO + b"a: b\r\n" * (HEAD_MAX_HEADERS - 1) + b"\r\n")
    assert (status, len(content["headers"])) == (200, HEAD_MAX_HEADERS)
    assert asked(port, HELLO + b"a: " + b"b" * size + b"\r\n\r\n")[0] == 200


@pytest.mark.parametrize(
    "what", [b"\x16\x03\x01\x02\x00", b"GET\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"hello\r\n\r\n"]
)
def test_what_is_no_request_is_told_so_as_a_problem(port, what):
    status, content = asked(port, what)

    assert (status, content["code"]) == (400, "malformed_request")
    assert content["request_id"].startswith("req_")


def test_heads_that_do_not_come_are_not_waited_for(port):
    began = time.monotonic()
    with connect(port) as silent, connect(port) as slow, connect(port) as lines:
        slow.sendall(HELLO)
        lines.sendall(b"\r\n")
        for _ in range(10):
            time.sleep(HEAD_S / 5)
            with contextlib.suppress(ConnectionError):
                slow.sendall(b"a: b\r\n")
                lines.sendall(b"\r\n")

        assert told(silent) == (0, None)
        assert told(slow)[0] in (408, 0)
        assert told(lines)[0] in (408, 0)
    assert time.monotonic() - began < 10 * HEAD_S


def test_a_connection_that_was_of_use_is_not_held_open_by_a_drip(port):
    with connect(port) as connection:
        connection.sendall(HELLO + b"\r\n")
        assert told(connection)[0] == 200
        began = time.monotonic()
        with contextlib.suppress(ConnectionError):
            while time.monotonic() - began < 5:
                connection.sendall(b"\r\n")
                time.sleep(0.05)

        assert HEAD_S / 2 < time.monotonic() - began < 4


def test_silent_connections_make_room_for_those_that_ask(port):
    with contextlib.ExitStack() as stack:
        silent = [stack.enter_context(connect(port)) for _ in range(200)]

        assert asked(port, HELLO + b"\r\n")[0] == 200
        time.sleep(HEAD_S * 2)
        assert all(told(connection) == (0, None) for connection in silent)


def test_bodies_that_do_not_come_make_room_too(port):
    with contextlib.ExitStack() as stack:
        for _ in range(60):
            connection = stack.enter_context(connect(port))
            connection.sendall(b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n1")

        for _ in range(5):
            assert asked(port, HELLO + b"\r\n")[0] == 200


def test_pieces_of_a_body_are_put_together_in_order(port):
    chunked = b"POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
    began = time.process_time()
    status, content = asked(port, chunked, b"1\r\nx\r\n" * 500_000, b"0\r\n\r\n")

    assert (status, content["size"]) == (200, 500_000)
    assert time.process_time() - began < 5


def test_what_follows_a_body_is_no_header_and_has_an_end(port):
    chunked = b"POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
    status, content = asked(port, chunked, b"1\r\nx\r\n0\r\nAuthorization: me\r\n\r\n")
    assert (status, content["headers"]) == (200, ["host", "transfer-encoding"])

    for endless in (b"a: b\r\n" * 2**20, b"a: " + b"b" * 2**23):
        status, _ = asked(port, chunked, b"1\r\nx\r\n0\r\n" + endless)
        assert status in (400, 431, 0)
    assert asked(port, chunked, b"1;" + b"a" * 2**23)[0] in (400, 431, 0)


def test_a_hundred_thousand_requests_in_a_row_are_not_taken_at_once(port):
    status, _ = asked(port, (HELLO + b"\r\n") * 100_000)

    assert status in (200, 400, 0)
    assert asked(port, HELLO + b"\r\n")[0] == 200


def test_a_few_requests_in_a_row_are_answered_in_order(port):
    with connect(port) as connection:
        connection.sendall((HELLO + b"\r\n") * 8)
        got = b""
        while got.count(b"HTTP/1.1 200") < 8:
            more = connection.recv(65536)
            assert more
            got += more


def test_who_does_not_read_an_answer_is_not_waited_for(port, monkeypatch):
    monkeypatch.setattr(connections, "SEND_CHECK_S", 0.2)
    with connect(port) as lazy:
        lazy.sendall(HELLO.replace(b"/ ", b"/large ") + b"\r\n")
        time.sleep(1)
        with pytest.raises(ConnectionError):
            while lazy.recv(2**20):
                pass
            raise ConnectionError
    assert asked(port, HELLO + b"\r\n")[0] == 200


def test_a_request_to_change_the_protocol_is_answered_as_any_other(port):
    upgrade = b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"

    assert asked(port, HELLO + upgrade + b"\r\n")[0] == 200


def test_connections_leave_descriptors_for_files(monkeypatch):
    for files, expected in ((1024, 512), (2**20, 1000), (20, 10)):
        monkeypatch.setattr(resource, "getrlimit", lambda _, files=files: (files, files))
        assert most_connections(0) == expected
    monkeypatch.setattr(resource, "getrlimit", lambda _: (1024, 1024))
    assert most_connections(1024 - DESCRIPTORS_LEFT) == 1024 - DESCRIPTORS_LEFT
    with pytest.raises(SettingsError, match="more than the 1024 files"):
        most_connections(1000)


@pytest.mark.slow
def test_more_silent_connections_than_descriptors_leave_the_service_usable(tmp_path):
    with (
        served(tmp_path / "data", connections_max=50) as service,
        contextlib.ExitStack() as stack,
    ):
        for _ in range(400):
            stack.enter_context(connect(service.port))
        for _ in range(10):
            began = time.monotonic()
            status, _ = asked(service.port, HELLO.replace(b"/ ", b"/livez ") + b"\r\n")
            assert (status, time.monotonic() - began < 2) == (200, True)
