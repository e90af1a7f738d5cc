"""A process that dies while it changes a gallery, or is killed while it fills one.

python -m indexer.tests.dying add|remove|snapshot|erase|forget|compact|restore DIRECTORY STEP
python -m indexer.tests.dying ingest DIRECTORY FOLDER
python -m indexer.tests.dying reindex|back DIRECTORY [TIMES]STEP
"""

import os
import sys
from pathlib import Path

from indexer.gallery.gallery import Gallery
from indexer.gallery.opening import remembered_model
from indexer.gallery.restoring import restore_snapshot
from indexer.gallery.snapshots import list_snapshots
from indexer.ingest.ingest import ingest
from indexer.ingest.reindex import reindex
from indexer.tests.scenery import (
    OtherDetector,
    StubDetector,
    database_of,
    model_of,
    new_scene,
    open_gallery,
    people,
)

DEATH = 41


def die_at(fatal, times=1):
    reached = []

    def on_step(step):
        if step == fatal:
            reached.append(step)
            if len(reached) == times:
                os._exit(DEATH)

    return on_step


def open_gallery_of_any(directory, **options):
    database = database_of(directory)
    model = remembered_model(directory, database)
    return Gallery.open_(
        directory,
        database=database,
        model_name=model.name,
        model_fingerprint=model.fingerprint,
        embedding_dim=model.embedding_dim,
        **options,
    )


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
    elif action in ("reindex", "back"):
        step = argument.lstrip("0123456789")
        times = int(argument[: len(argument) - len(step)] or 1)
        gallery = open_gallery_of_any(directory, on_step=die_at(step, times))
        detector = OtherDetector() if action == "reindex" else StubDetector()
        reindex(gallery, model_of(detector), lambda model: detector)
    elif action == "restore":
        (found,) = list_snapshots(directory / "snapshots")
        restore_snapshot(found.path, directory, on_step=die_at(argument))
    else:
        gallery = open_gallery(directory, engine="exact", on_step=die_at(argument))
        scene = gallery.scenes.find(new_scene("old 1").sha256)
        if action == "remove":
            gallery.remove(scene.id)
        elif action == "snapshot":
            gallery.snapshots.make()
        elif action == "compact":
            gallery.upkeep.compact()
        elif action == "erase":
            gallery.erasures.finish(gallery.erasures.begin(scene_ids=[scene.id]).id)
        elif action == "forget":
            first_two = [one.id for one in scene.detections[:2]]
            gallery.erasures.finish(gallery.erasures.begin(detection_ids=first_two).id)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), sys.argv[3])
