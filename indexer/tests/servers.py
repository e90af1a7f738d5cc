"""Real servers on loopback, started for the tests and ended with them."""

import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from types import SimpleNamespace

import pytest

from models.tests.machine import missing

try:
    import psycopg
except ImportError:  # then what needs it is skipped
    psycopg = None

DATABASE = "PERSON_SEARCH_TESTS_DATABASE"  # the kind of database of all tests
ENGINE = "PERSON_SEARCH_TESTS_ENGINE"  # of the galleries of tests
MILVUS = "PERSON_SEARCH_TESTS_MILVUS"  # the URI of a Milvus to use
SERVER = "PERSON_SEARCH_TESTS_POSTGRES"  # the URL of the server that galleries are kept on


ETCD_PORT = 2380  # of the etcd within Milvus, which cannot be given another
MILVUS_OPTIONS = ("common.session.ttl=5", "proxy.timeTickInterval=50", "proxy.ip=127.0.0.1")
INITDB = ("-A", "trust", "--encoding=UTF8", "--locale=C.UTF-8", "--no-sync")


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def _is_free(port):
    with socket.socket() as one:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            one.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def postgres_programs():
    """The directory of initdb and postgres, or None."""
    found = shutil.which("initdb")
    places = [Path(found).resolve().parent] if found else []
    places += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    return next((place for place in places if (place / "postgres").exists()), None)


@contextmanager
def postgres():
    """A PostgreSQL of its own, empty, never run as root; yields a PostgresServer.

    Where there is none the test is skipped, or fails: see models/tests/machine.py.
    """
    if psycopg is None:
        missing("psycopg is not installed: pip install 'nae-search[scale]'")
    programs = postgres_programs()
    if programs is None:
        missing("no PostgreSQL server here: apt-get install postgresql")
    user = {}
    if os.geteuid() == 0:
        try:
            pwd.getpwnam("postgres")
        except KeyError:
            missing("PostgreSQL does not run as root, and there is no user postgres")
        user = {"user": "postgres", "group": "postgres", "extra_groups": []}
    folder = Path(tempfile.mkdtemp(prefix="pg-"))
    try:
        if user:
            shutil.chown(folder, "postgres", "postgres")
        quiet = {"stdout": subprocess.DEVNULL, "cwd": folder, **user}
        subprocess.run(
            [programs / "initdb", "-D", folder / "data", "-U", "postgres", *INITDB],
            check=True,
            **quiet,
        )
        server = PostgresServer(programs, folder, free_port(), quiet)
        server.start()
        try:
            yield server
        finally:
            server.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


class PostgresServer:
    """A server that tests may end and start again."""

    def __init__(self, programs, folder, port, options):
        self._programs, self._folder, self._port, self._options = programs, folder, port, options
        self._process = None

    def start(self):
        log = (self._folder / "log").open("ab")
        options = ["-p", str(self._port), "-c", "listen_addresses=127.0.0.1", "-c", "fsync=off"]
        options += ["-c", f"unix_socket_directories={self._folder}", "-c", "max_connections=200"]
        self._process = subprocess.Popen(
            [self._programs / "postgres", "-D", self._folder / "data", *options],
            stderr=log,
            **self._options,
        )
        log.close()
        ready = [self._programs / "pg_isready", "-q", "-h", "127.0.0.1", "-p", str(self._port)]
        ends = time.monotonic() + 60
        while subprocess.run(ready).returncode:
            assert self._process.poll() is None, (self._folder / "log").read_text()
            assert time.monotonic() < ends, (self._folder / "log").read_text()
            time.sleep(0.05)

    def stop(self):
        self._process.send_signal(2)  # fast: it ends its sessions
        self._process.wait(60)

    @property
    def url(self):
        """Of the server; a slash and a name behind it make that of a database."""
        return f"postgresql://postgres@127.0.0.1:{self._port}"

    def databases(self):
        with psycopg.connect(f"{self.url}/postgres", autocommit=True) as connection:
            found = connection.execute(
                "SELECT datname FROM pg_database WHERE datname LIKE 'gallery%'"
            )
            return {name for (name,) in found}

    def drop(self, name):
        with psycopg.connect(f"{self.url}/postgres", autocommit=True) as connection:
            connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


def create_database(server, name):
    """An empty database on a server, unless it is there."""
    with psycopg.connect(f"{server}/postgres", autocommit=True) as connection:
        there = "SELECT 1 FROM pg_database WHERE datname = %s"
        if connection.execute(there, (name,)).fetchone() is None:
            connection.execute(f"CREATE DATABASE {name} TEMPLATE template0")


def milvus_program():
    """The program that starts a Milvus, or None."""
    beside = [Path(sys.prefix) / "bin", Path(__file__).parents[2] / ".venv-milvus" / "bin"]
    places = [shutil.which("milvus-server"), *(folder / "milvus-server" for folder in beside)]
    return next((place for place in places if place and Path(place).exists()), None)


@contextmanager
def milvus():
    """A Milvus of its own, or the one that PERSON_SEARCH_TESTS_MILVUS names, with its uri.

    Skips the test where there is none.
    """
    pytest.importorskip("pymilvus", reason="pymilvus is not installed: the extra scale has it")
    given = os.environ.get(MILVUS)
    if given:
        yield SimpleNamespace(uri=given)
        return
    program = milvus_program()
    if program is None:
        missing("no Milvus here: python3 -m venv .venv-milvus, pip install milvus==2.3.5 in it")
    if not _is_free(ETCD_PORT):
        missing(f"no Milvus: its port {ETCD_PORT} is taken; {MILVUS} may name one that runs")
    try:
        server = MilvusProcess(program)
    except AssertionError:  # on a busy machine its parts may give each other up: once more
        server = MilvusProcess(program)
    try:
        yield server
    finally:
        server.end()


class MilvusProcess:
    """A server that tests may kill and start again."""

    def __init__(self, program):
        self._folder = Path(tempfile.mkdtemp(prefix="milvus-"))
        port = free_port()
        self.uri = f"http://127.0.0.1:{port}"
        words = [program, "--data", self._folder / "data", "--proxy-port", str(port)]
        settings = [word for one in MILVUS_OPTIONS for word in ("--extra-config", one)]
        self._run(words + settings, self._folder)

    def kill(self):
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def start_again(self):
        """With what it had: the program itself, since what starts it first would move its ports."""
        data = self._folder / "data"
        own = {"DEPLOY_MODE": "STANDALONE", "METRICS_PORT": "9091", "MILVUS_RUN_DIR": data / "run"}
        own["LD_LIBRARY_PATH"] = data / "bin"
        self._run([data / "bin" / "milvus", "run", "standalone"], data, env={**os.environ, **own})

    def end(self):
        self.kill()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _run(self, words, folder, **options):
        log = self._folder / "log"
        with log.open("ab") as file:
            self._process = subprocess.Popen(
                words,
                stdout=file,
                stderr=file,
                cwd=folder,
                start_new_session=True,  # it and what it starts can be ended together
                **options,
            )
        try:
            _wait_for_milvus(self.uri, self._process, log)
        except BaseException:
            self.end()
            raise


def _wait_for_milvus(uri, process, log):
    from pymilvus import MilvusClient
    from pymilvus.exceptions import MilvusException

    ends = time.monotonic() + 120
    while True:
        try:
            client = MilvusClient(uri=uri, timeout=2)
            client.list_collections()
            client.close()
            return
        except MilvusException:
            assert process.poll() is None, log.read_text()[-2000:]
            assert time.monotonic() < ends, log.read_text()[-2000:]
            time.sleep(0.3)


@contextmanager
def s3():
    """An S3 server that keeps all in memory; yields the URL of an empty bucket.

    While it runs, the AWS_… variables lead to it. Skips the test where there is none.
    """
    pytest.importorskip("moto", reason="moto is not installed: it is in the group dev")
    pytest.importorskip("obstore", reason="obstore is not installed: the extra scale has it")
    import urllib.request

    port = free_port()
    process = subprocess.Popen(
        [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    address = f"http://127.0.0.1:{port}"
    try:
        ends = time.monotonic() + 60
        while True:
            try:
                make = urllib.request.Request(f"{address}/pictures", method="PUT")
                urllib.request.urlopen(make, timeout=5).close()
                break
            except OSError:
                assert process.poll() is None
                assert time.monotonic() < ends
                time.sleep(0.1)
        yield address
    finally:
        process.kill()
        process.wait()
