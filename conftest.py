"""What every layer's tests share."""

import os
import random
import signal

import pytest

from indexer.tests import servers

# Before torch is imported, for this process and those it starts: several of them share the cores,
# and threads of torch that wait for a core of another's spin meanwhile (8 times the CPU time).
os.environ.setdefault("OMP_NUM_THREADS", "1")

# Files whose tests take longest, in this order: they begin first, so that at the end no process
# has a long one left while the others have nothing to do.
LONGEST = (
    "test_conformance",
    "test_milvus_index",
    "test_train_processes",
    "test_killed",
    "test_conformance_nae_plus",
    "test_any_request",
    "test_train",
    "test_replicas",
    "test_generations",
    "test_load",
    "test_train_compare",
    "test_random_lives",
    "test_concurrency",
    "test_page_gallery",
    "test_page_search",
    "test_reference",
    "test_onnx_parity",
    "test_parity",
    "test_connections",
    "test_people",
    "test_compose",
    "test_published",
    "test_history",
    "test_crash_recovery",
)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def seed(request) -> int:
    """For random tests: always the same, and another each time where they are marked soak.

    Printed, so that a failure shows it; PROOF_SEED repeats one.
    """
    usual = random.randrange(2**32) if request.node.get_closest_marker("soak") else 20
    chosen = int(os.environ.get("PROOF_SEED", usual))
    print(f"PROOF_SEED={chosen}")  # noqa: T201
    return chosen


def pytest_configure(config):
    """A shell's background job ignores Ctrl-C, and so would each command that a test starts."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(config, items):
    """Tests marked soak take hours: they run only where -m names them.

    (Not by -m in addopts: any other -m would take its place.) Tests marked sqlite are about its
    files.
    """
    places = {f"{name}.py": place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: places.get(item.path.name, len(places)))
    elsewhere = {
        item
        for item in items
        if item.get_closest_marker("sqlite")
        and getattr(item, "callspec", None)
        and item.callspec.params.get("database") == "postgresql"
    }
    items[:] = [item for item in items if item not in elsewhere]
    if "soak" in config.option.markexpr:
        return
    soak = [item for item in items if item.get_closest_marker("soak")]
    config.hook.pytest_deselected(items=soak)
    items[:] = [item for item in items if item not in set(soak)]


@pytest.fixture(scope="session")
def postgres_server():
    """A PostgreSQL server on loopback, for all tests that need one."""
    with servers.postgres() as server:
        yield server


@pytest.fixture(scope="session")
def milvus_server():
    """A Milvus server on loopback, for all tests that need one."""
    with servers.milvus() as server:
        yield server


@pytest.fixture(scope="session")
def milvus(milvus_server):
    """The URI of a Milvus server on loopback."""
    return milvus_server.uri


@pytest.fixture(scope="session", autouse=True)
def servers_of_tests(request):
    """PERSON_SEARCH_TESTS_DATABASE=postgresql keeps galleries of all tests there, and
    PERSON_SEARCH_TESTS_ENGINE=milvus-flat their vectors in Milvus."""
    if os.environ.get(servers.DATABASE) == "postgresql":
        os.environ[servers.SERVER] = request.getfixturevalue("postgres_server").url
    if servers.ENGINE in os.environ:
        os.environ[servers.MILVUS] = request.getfixturevalue("milvus")


@pytest.fixture(scope="session")
def s3_server():
    """The address of an S3 server on loopback, with a bucket of pictures."""
    with servers.s3() as address:
        yield address


@pytest.fixture
def s3_url(s3_server, monkeypatch, tmp_path):
    """An empty place in object storage; the AWS_… variables lead to it."""
    for name, value in {
        "AWS_ENDPOINT_URL": s3_server,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(name, value)
    return f"s3://pictures/{tmp_path.name}"


@pytest.fixture
def postgres(postgres_server, monkeypatch):
    """The test's galleries are kept in PostgreSQL: one database for each directory."""
    monkeypatch.setenv(servers.SERVER, postgres_server.url)
    before = postgres_server.databases()
    yield postgres_server
    for name in postgres_server.databases() - before:
        postgres_server.drop(name)


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request):
    """The test runs with galleries in either kind of database; if marked sqlite, in files only."""
    if request.param == "postgresql":
        request.getfixturevalue("postgres")
    return request.param
