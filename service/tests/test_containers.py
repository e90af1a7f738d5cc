"""What the container files say; docker/build.sh builds an image of them and runs it."""

import json
import os
import re
import shutil
import stat
import subprocess
import sys
import time
import tomllib
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from service.tests.serving import Served, free_port

ROOT = Path(__file__).parent.parent.parent
DOCKER = ROOT / "docker"
IMAGES = [ROOT / "Dockerfile", DOCKER / "train.Dockerfile"]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
LOCKS = {
    "cpu": ["cpu"],
    "gpu": ["gpu"],
    "scale": ["cpu", "ray", "scale"],
    "train": ["cpu", "train"],
}
PINNED = re.compile(r"^([A-Za-z0-9_.-]+)(?:\[.*\])?==(\S+)", re.MULTILINE)


def stages(path):
    """The instructions of each stage, by the stage's name; comments and line breaks left out."""
    text = re.sub(r"^#.*\n", "", path.read_text(), flags=re.MULTILINE).replace("\\\n", " ")
    found = {}
    for line in filter(None, map(str.strip, text.splitlines())):
        word, rest = line.split(None, 1)
        if word == "FROM":
            base, _, name = rest.partition(" AS ")
            found[name or "(last)"] = [(word, base)]
        elif found:
            list(found.values())[-1].append((word, rest))
    return found


def lineage(found, name):
    """All instructions that make a stage, those of the stages below it first."""
    base = found[name][0][1]
    return (lineage(found, base) if base in found else []) + found[name]


@pytest.mark.parametrize("target", ["cpu", "gpu", "scale"])
def test_an_image_that_serves_is_unprivileged_and_checked(target):
    instructions = lineage(stages(ROOT / "Dockerfile"), target)

    last = dict(instructions)
    assert last["USER"] == "person-search"
    assert "healthcheck.py" in last["HEALTHCHECK"]
    assert last["STOPSIGNAL"] == "SIGTERM"
    assert json.loads(last["ENTRYPOINT"]) == ["python", "/opt/start.py"]
    user = instructions.index(("USER", "person-search"))
    assert not [rest for word, rest in instructions[user:] if word == "RUN"]


def test_without_a_target_the_image_is_that_for_a_cpu():
    found = stages(ROOT / "Dockerfile")

    assert list(found.items())[-1] == ("(last)", [("FROM", "cpu")])
    assert lineage(found, "(last)")[:-1] == lineage(found, "cpu")


def test_what_serves_has_no_training_in_it():
    (program,) = [rest for word, rest in stages(ROOT / "Dockerfile")["program"] if "rm -rf" in rest]
    ignored = (ROOT / ".dockerignore").read_text().splitlines()

    for folder in ("models/nn", "service/train"):
        assert folder in program
        assert folder in ignored
    for target in ("cpu", "gpu", "scale"):
        copied = [
            rest for word, rest in lineage(stages(ROOT / "Dockerfile"), target) if word == "COPY"
        ]
        assert not [rest for rest in copied if re.search(r"(?<!--from=)\b(models|service)\b", rest)]


@pytest.mark.parametrize("path", IMAGES, ids=lambda path: path.name)
def test_images_install_what_is_locked_and_nothing_else(path):
    commands = [rest for name in stages(path) for word, rest in stages(path)[name] if word == "RUN"]
    installs = [
        install
        for command in commands
        for install in command.split("&&")
        if re.search(r"\bpip\b.*\binstall\b", install) and "apt-get" not in install
    ]

    assert installs
    for install in installs:
        assert "--require-hashes" in install or "--no-deps" in install
        for name in re.findall(r"-r /tmp/(\w+)\.txt", install):
            assert (DOCKER / "requirements" / f"{name}.txt").exists()


@pytest.mark.parametrize("name", sorted([*LOCKS, "build"]))
def test_every_locked_package_has_a_version_and_a_hash(name):
    entries = re.split(r"\n(?=\S)", (DOCKER / "requirements" / f"{name}.txt").read_text())
    packages = [entry for entry in entries if not entry.startswith("#")]

    assert packages
    for entry in packages:
        assert PINNED.match(entry), entry
        assert "--hash=sha256:" in entry, entry


@pytest.mark.parametrize("name", sorted(LOCKS))
def test_the_lock_files_are_those_of_this_project(name):
    """After a change of pyproject.toml: make lock."""
    locked = dict(PINNED.findall((DOCKER / "requirements" / f"{name}.txt").read_text()))
    extras = PROJECT["optional-dependencies"]
    wanted = [*PROJECT["dependencies"], *(one for extra in LOCKS[name] for one in extras[extra])]

    for requirement in map(Requirement, wanted):
        assert locked[requirement.name] in requirement.specifier, requirement
    assert ("torch" in locked) == (name == "train")


def test_every_image_compose_builds_is_a_target():
    found = stages(ROOT / "Dockerfile")
    named = re.findall(r"target: (\w+)", (ROOT / "docker-compose.yml").read_text())

    assert set(named) == {"gpu", "scale"}
    assert set(named) <= set(found)


@pytest.mark.skipif(shutil.which("docker-compose") is None, reason="there is no docker-compose")
@pytest.mark.parametrize("profiles", ["", "gpu,scale,metrics,train"])
def test_compose_understands_the_file_with_no_setting_at_all(profiles):
    environment = {"PATH": os.environ["PATH"], "HOME": "/nonexistent", "COMPOSE_PROFILES": profiles}
    done = subprocess.run(
        ["docker-compose", "config"], cwd=ROOT, env=environment, capture_output=True, text=True
    )

    assert (done.returncode, done.stderr) == (0, "")
    services = done.stdout.split("\nservices:\n", 1)[-1]
    for name in ("service", "gpu", "scale", "milvus", "postgres", "prometheus", "grafana", "train"):
        assert f"\n  {name}:\n" in f"\n{services}", name
    published = re.findall(r"^ +- (\S+)/tcp$", done.stdout, re.MULTILINE)
    assert published
    assert all(port.startswith("127.0.0.1:") for port in published)


def test_the_dashboard_asks_for_metrics_that_the_service_has(tmp_path):
    dashboard = json.loads((DOCKER / "grafana/dashboards/person_search.json").read_text())
    asked = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    served = Served(tmp_path / "data")
    try:
        told = urllib.request.urlopen(f"http://127.0.0.1:{served.port}/metrics").read().decode()
    finally:
        served.kill()

    names = set(re.findall(r"^# TYPE (\w+) ", told, re.MULTILINE))
    assert asked
    for expression in asked:
        (name,) = re.findall(r"person_search_\w+", expression)
        assert name.removesuffix("_bucket") in names, expression


# Runs a script with an urlopen that says what it is asked for.
CHECK_ASKING = """
import runpy, sys, urllib.request

def say(url, timeout):
    print(url)
    sys.exit()

urllib.request.urlopen = say
runpy.run_path(sys.argv[1])
"""


@pytest.fixture
def start_container(tmp_path):
    """Run start.py as the image does, with tmp_path/keys as its volume; yields what it is."""
    started = []
    keys = tmp_path / "keys"
    keys.mkdir()

    def start(**settings):
        environment = {k: v for k, v in os.environ.items() if not k.startswith("PERSON_SEARCH")}
        environment |= settings | {
            "KEYS_DIR": str(keys),
            "PYTHONPATH": str(ROOT),
            "PERSON_SEARCH_PORT": str(free_port()),
            "PERSON_SEARCH_DATA_DIR": str(tmp_path / "data"),
        }
        process = subprocess.Popen(
            [sys.executable, DOCKER / "start.py"],
            env=environment,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        check = [sys.executable, DOCKER / "healthcheck.py"]
        ends = time.monotonic() + 30
        while subprocess.run(check, env=environment, capture_output=True).returncode:
            assert process.poll() is None, process.stderr.read()
            assert time.monotonic() < ends
            time.sleep(0.1)
        return process, f"http://127.0.0.1:{environment['PERSON_SEARCH_PORT']}", check, environment

    yield start
    for process in started:
        process.kill()
        process.communicate()


def status(url, secret=None):
    headers = {} if secret is None else {"Authorization": f"Bearer {secret}"}
    try:
        return urllib.request.urlopen(urllib.request.Request(url, headers=headers)).status
    except urllib.error.HTTPError as error:
        return error.code


@pytest.mark.slow
def test_a_container_without_keys_makes_them_once(start_container, tmp_path):
    process, url, check, environment = start_container()
    file = tmp_path / "keys" / "api-keys"
    made = file.read_text()
    admin, metrics = (line.split(":") for line in made.splitlines())

    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert status(f"{url}/gallery/images") == 401
    assert status(f"{url}/gallery/images", admin[2]) == 200
    assert (tmp_path / "keys" / "metrics").read_text() == metrics[2]
    assert status(f"{url}/metrics", metrics[2]) == 200
    assert status(f"{url}/gallery/images", metrics[2]) == 403

    process.terminate()
    assert process.wait(30) == 0
    told = process.stderr.read()
    assert "docker compose exec service" in told
    assert admin[2] not in told
    assert subprocess.run(check, env=environment, capture_output=True).returncode == 1
    start_container()
    assert file.read_text() == made
    assert {path.name for path in file.parent.iterdir()} == {"api-keys", "metrics"}


@pytest.mark.slow
@pytest.mark.parametrize("there", [None, "# none\n", "me:admin:" + "s" * 20 + "\n"])
def test_a_container_that_cannot_make_keys_says_so(tmp_path, there):
    keys = tmp_path / "keys"
    keys.mkdir()
    if there is not None:
        (keys / "api-keys").write_text(there)
    keys.chmod(0o500)
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PERSON_SEARCH")}
    environment |= {"KEYS_DIR": str(keys), "PYTHONPATH": str(ROOT)}
    environment["PERSON_SEARCH_DATA_DIR"] = str(tmp_path / "data")
    environment["PERSON_SEARCH_HOST"] = "no.such.host.example"  # where keys are right, this is next
    command = [sys.executable, DOCKER / "start.py"]
    if os.geteuid() == 0:  # whom modes do not stop, unless they give that up
        no_override = "-dac_override,-dac_read_search"
        command = ["setpriv", "--bounding-set", no_override, "--inh-caps", no_override, *command]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)

    assert done.returncode != 0
    assert "Traceback" not in done.stderr
    expected = {None: "cannot make API keys", "# none\n": "no API key in"}
    assert expected.get(there, "") in done.stderr


@pytest.mark.parametrize("port", ["tcp://10.96.12.7:8000", "", None])
def test_the_health_check_asks_at_the_port_of_the_service(monkeypatch, port):
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PERSON_SEARCH")}
    environment |= {} if port is None else {"PERSON_SEARCH_PORT": port}
    check = [sys.executable, "-c", CHECK_ASKING, DOCKER / "healthcheck.py"]
    done = subprocess.run(check, env=environment, capture_output=True, text=True)

    assert done.stdout.strip() == "http://127.0.0.1:8000/readyz"


@pytest.mark.slow
def test_a_container_with_keys_makes_none(start_container, tmp_path):
    _, url, _, _ = start_container(PERSON_SEARCH_API_KEYS="me:admin:" + "s" * 20)

    assert status(f"{url}/gallery/images", "s" * 20) == 200
    assert not list((tmp_path / "keys").iterdir())
