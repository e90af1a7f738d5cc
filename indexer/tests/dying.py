"""A process that dies while it changes a gallery, or is killed while it fills one.

python -m indexer.tests.dying add|remove|snapshot|erase|forget|compact|restore DIRECTORY STEP
python -m indexer.tests.dying ingest DIRECTORY FOLDER
"""

import os
import sys
from pathlib import Path

from indexer.ingest import ingest
from indexer.snapshots import list_snapshots, restore_snapshot
from indexer.tests.scenery import StubDetector, new_scene, open_gallery, people

DEATH = 41


def die_at(fatal):
    def on_step(step):
        if step == fatal:
            os._exit(DEATH)

    return on_step


def say(*words):
    sys.stdout.write(" ".join(words) + "\n")
    sys.stdout.flush()


def main(action, directory, argument):
    if action == "ingest":
        with open_gallery(directory) as gallery:
            for number, outcome in enumerate(ingest([Path(argument)], StubDetector(), gallery)):
                scene = outcome.result.scene
                say("stored", scene.id, outcome.file.external_id)
                if number % 4 == 3:
                    gallery.remove(scene.id)
                    say("removed", scene.id, outcome.file.external_id)
        say("done", "-", "-")
    elif action == "add":
        gallery = open_gallery(directory, engine="exact", on_step=die_at(argument))
        gallery.add(new_scene("new", external_id="new", tags=("a", "b")), people(5, seed=5))
    elif action == "restore":
        (found,) = list_snapshots(directory / "snapshots")
        restore_snapshot(found.path, directory, on_step=die_at(argument))
    else:
        gallery = open_gallery(directory, engine="exact", on_step=die_at(argument))
        scene = gallery.find(new_scene("old 1").sha256)
        if action == "remove":
            gallery.remove(scene.id)
        elif action == "snapshot":
            gallery.snapshot()
        elif action == "compact":
            gallery.compact()
        elif action == "erase":
            gallery.finish_erasure(gallery.erase(scene_ids=[scene.id]).id)
        elif action == "forget":
            first_two = [one.id for one in scene.detections[:2]]
            gallery.finish_erasure(gallery.erase(detection_ids=first_two).id)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), sys.argv[3])
