"""Run a serving image that is mounted as a directory, and see that it does what it should.

    buildah inspect --type image IMAGE | python3 docker/smoke.py DIR [NAME=VALUE …]

As root, on Linux, without a container engine: in namespaces of its own (mounts, processes,
network), on a read-only root, as the image's user without capabilities, with the image's
environment (and what is given), entry point and health check, and with two directories as its
volumes. Prints one line a finding; the exit code is 1 at the first that is wrong.
"""

import json
import os
import shlex
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
import uuid
from contextlib import contextmanager
from pathlib import Path
from signal import SIGKILL, SIGTERM

SCENES = Path(__file__).parent.parent / "service" / "demo_scenes" / "images"
URL = "http://127.0.0.1:8000"
START_S = 60
STOP_S = 30


class Container:
    """One run of the image; PID 1 of its namespace is the image's entry point."""

    def __init__(self, root, config, volumes):
        self.config = config
        self.uid, self.gid = user_of(root, config["User"])
        mounts = [f"mount --bind {root} {root}", f"mount -o remount,bind,ro {root}"]
        mounts += [f"mount --rbind /dev {root}/dev", f"mount -t proc proc {root}/proc"]
        mounts += [f"mount -t tmpfs -o size=1g,mode=1777 tmpfs {root}/tmp"]
        for inside, outside in volumes.items():
            os.chown(outside, self.uid, self.gid)
            mounts += [f"mount --bind {outside} {root}{inside}"]
        self.root = root
        entry = shlex.join(self.command(config["Entrypoint"] + (config.get("Cmd") or [])))
        script = "\n".join([*mounts, f"exec {entry}"])
        self.process = subprocess.Popen(
            ["unshare", "--mount", "--pid", "--fork", "--kill-child", "sh", "-euc", script],
            stderr=subprocess.PIPE,
            text=True,
        )

    def command(self, words):
        """As the image's user, with its environment alone and no capabilities."""
        return [
            *("chroot", self.root, "setpriv", f"--reuid={self.uid}", f"--regid={self.gid}"),
            *("--clear-groups", "--no-new-privs", "--bounding-set=-all", "--inh-caps=-all"),
            *("env", "-i", *self.config["Env"], *words),
        ]

    @property
    def pid(self):
        """Of PID 1 of the namespace, as this process sees it."""
        (child,) = (
            Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        )
        return int(child)

    def inside(self, words):
        """The exit code and output of a command beside the entry point."""
        enter = ["nsenter", f"--target={self.pid}", "--mount", "--pid"]
        done = subprocess.run(enter + self.command(words), capture_output=True, text=True)
        return done.returncode, done.stdout + done.stderr

    def give_up(self, finding):
        """End it and this program, with what it said."""
        self.process.kill()
        print(self.process.communicate()[1], file=sys.stderr)
        check(False, finding)

    def end(self, signal):
        """Seconds until it ended, and how."""
        begun = time.monotonic()
        os.kill(self.pid, signal)
        self.told = self.process.communicate(timeout=STOP_S + 5)[1]
        return time.monotonic() - begun, self.process.returncode


def main():
    with image_to_try() as (root, config, volumes):
        first = Container(root, config, volumes)
        try:
            try_first(first, volumes)
            found = try_adding(first, volumes)
            seconds, _ = first.end(SIGKILL)
            tell(f"killed with SIGKILL in {seconds:.1f} s")
        finally:
            first.process.kill()
        second = Container(root, config, volumes)
        try:
            wait_ready(second)
            again = search(volumes, found["query"])
            check(again == found["hits"], f"the same {len(again)} hits after the restart")
            seconds, code = second.end(SIGTERM)
            check(seconds < STOP_S and code == 0, f"SIGTERM: ended in {seconds:.1f} s with {code}")
        finally:
            second.process.kill()


@contextmanager
def image_to_try():
    """Where the image lies, what it says of itself, and directories for its volumes.

    With a network of its own, in which there is nothing but lo.
    """
    if os.environ.get("SMOKE_ALONE") != "1":
        script = 'ip link set lo up 2>/dev/null || ifconfig lo up; exec "$@"'
        words = ["unshare", "--net", "sh", "-c", script, "sh", sys.executable, *sys.argv]
        os.execvpe(words[0], words, os.environ | {"SMOKE_ALONE": "1"})
    root, config = sys.argv[1], json.load(sys.stdin)["Docker"]["config"]
    config["Env"] += sys.argv[2:]
    with tempfile.TemporaryDirectory() as folder:
        volumes = {inside: str(Path(folder, inside.strip("/"))) for inside in config["Volumes"]}
        for outside in volumes.values():
            Path(outside).mkdir(mode=0o700)
        yield root, config, volumes


def try_first(container, volumes):
    wait_ready(container)
    status = dict(
        line.split(":\t", 1)
        for line in Path(f"/proc/{container.pid}/status").read_text().splitlines()
        if ":\t" in line
    )
    check(
        container.uid != 0 and status["Uid"].split() == [str(container.uid)] * 4,
        f"runs as user {container.uid}",
    )
    check(status["NSpid"].split()[-1] == "1" and "python" in status["Name"], "Python is PID 1")
    check(int(status["CapEff"], 16) == 0, "has no capabilities")
    code, said = container.inside(["touch", "/opt/program/x"])
    check(code != 0 and "Read-only file system" in said, "its root is read-only")
    for module in ("torch", "models.nn", "service.train"):
        code, said = container.inside(["python", "-c", f"import {module}"])
        check(code == 1 and "ModuleNotFoundError" in said, f"there is no {module}")
    test = container.config["Healthcheck"]["Test"]
    check(test[0] == "CMD", "the health check needs no shell")
    code, said = container.inside(test[1:])
    check(code == 0, f"the health check says healthy {said}")
    try:
        ask("GET", "/gallery/images")
        check(False, "without a key nobody is let in")
    except urllib.error.HTTPError as error:
        check(error.code == 401, "without a key nobody is let in")


def try_adding(container, volumes):
    files = sorted(SCENES.glob("*.jpg"))[:4]
    begun = time.monotonic()
    added = [ask("POST", "/gallery/images", volumes, form=("image", path)) for path in files]
    people = sum(len(image["detections"]) for image in added)
    check(
        people > 0, f"{len(added)} scenes with {people} people in {time.monotonic() - begun:.1f} s"
    )
    query = {"queries": [{"detection_id": added[0]["detections"][0]["id"]}], "limit": 10}
    hits = search(volumes, query)
    check(len(hits) > 1, f"a search finds {len(hits)} of them")
    return {"query": query, "hits": hits}


def search(volumes, query):
    answer = ask("POST", "/search", volumes, body=query)
    return [(hit["detection"]["id"], hit["score"]) for hit in answer["hits"]]


def wait_ready(container):
    begun = time.monotonic()
    while True:
        try:
            ask("GET", "/readyz")
        except OSError as error:
            if container.process.poll() is not None or time.monotonic() - begun > START_S:
                container.give_up(f"ready within {START_S} s: {error}")
            time.sleep(0.1)
        else:
            tell(f"ready in {time.monotonic() - begun:.1f} s")
            return


def ask(method, path, volumes=None, *, body=None, form=None):
    headers = {}
    if volumes is not None:
        line = Path(volumes["/keys"], "api-keys").read_text().splitlines()[0]
        headers["Authorization"] = "Bearer " + line.split(":", 2)[2]
    data = None
    if body is not None:
        data, headers["Content-Type"] = json.dumps(body).encode(), "application/json"
    if form is not None:
        name, file = form
        border = uuid.uuid4().hex
        headers["Content-Type"] = f"multipart/form-data; boundary={border}"
        head = f'--{border}\r\nContent-Disposition: form-data; name="{name}"; filename="a.jpg"\r\n'
        data = f"{head}Content-Type: image/jpeg\r\n\r\n".encode() + file.read_bytes()
        data += f"\r\n--{border}--\r\n".encode()
    request = urllib.request.Request(URL + path, data, headers, method=method)
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.load(answer)


def user_of(root, name):
    """The user and group number of a name in the image's own list."""
    for line in Path(root, "etc/passwd").read_text().splitlines():
        fields = line.split(":")
        if fields[0] == name:
            return int(fields[2]), int(fields[3])
    sys.exit(f"the image has no user {name!r}")


def check(right, finding):
    print(("ok     " if right else "WRONG  ") + finding, flush=True)
    if not right:
        sys.exit(1)


def tell(finding):
    print("       " + finding, flush=True)


if __name__ == "__main__":
    main()
