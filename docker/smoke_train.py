"""Run the training image that is mounted as a directory, and see that it does what it should.

    buildah inspect --type image IMAGE | python3 docker/smoke_train.py DIR [NAME=VALUE …]

As smoke.py does for images that serve: a short training on the scenes that ship is killed, and
resumed.
"""

import shutil
import sys
import time
from pathlib import Path
from signal import SIGKILL

from smoke import SCENES, Container, check, image_to_try, tell

FEW_STEPS = ["--epochs", "2", "--checkpoint-every", "2", "--batch-size", "2", "--min-size", "192"]
LONGEST_S = 900


def main():
    with image_to_try() as (root, config, volumes):
        runs = Path(volumes["/runs"])
        shutil.copytree(SCENES.parent, runs / "scenes")
        words = ["--preset", "quick", "--data", "/runs/scenes", "--out", "/runs/first", *FEW_STEPS]
        first = Container(root, {**config, "Cmd": words}, volumes)
        try:
            wait_for(runs / "first" / "checkpoint.pt", first)
            check(first.uid != 0, f"trains as user {first.uid}, on a read-only root")
            code, said = first.inside(["python", "-c", "import torch; print(torch.__version__)"])
            check(code == 0, f"has torch {said.strip()}")
            first.end(SIGKILL)
            tell("killed with SIGKILL after its first checkpoint")
        finally:
            first.process.kill()
        begun = time.monotonic()
        second = Container(root, {**config, "Cmd": [*words, "--resume"]}, volumes)
        try:
            said = second.process.communicate(timeout=LONGEST_S)[1]
        finally:
            second.process.kill()
        if second.process.returncode:
            print(said, file=sys.stderr)
        check(second.process.returncode == 0, f"resumed, ended in {time.monotonic() - begun:.0f} s")
        made = sorted(file.name for file in (runs / "first" / "model").iterdir())
        check("card.json" in made, f"its model: {', '.join(made)}")


def wait_for(file, container):
    begun = time.monotonic()
    while not file.exists():
        if container.process.poll() is not None or time.monotonic() - begun > LONGEST_S:
            container.give_up(f"{file.name} within {LONGEST_S} s")
        time.sleep(0.2)


if __name__ == "__main__":
    main()
