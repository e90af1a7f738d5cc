"""A bulk run in a process of its own, which tests end.

python -m indexer.tests.bulk_run PHOTOS GALLERY [SECONDS]

Two workers take SECONDS for each picture.
"""

import sys
import time
from functools import partial
from pathlib import Path

from indexer.ingest.bulk import bulk
from indexer.ingest.bulk_workers import Processes
from indexer.tests.scenery import StubDetector, open_gallery


class SlowDetector(StubDetector):
    """The stub, after so many seconds; a picture that is all black kills it."""

    def __init__(self, seconds=0.0):
        super().__init__()
        self._seconds = seconds

    def detect(self, images):
        time.sleep(self._seconds)
        for image in images:
            if not image.any():
                sys.exit(9)
        return super().detect(images)


class ChangingDetector(StubDetector):
    """The stub; the file is another one when it is done."""

    def __init__(self, path):
        super().__init__()
        self._path = path

    def detect(self, images):
        self._path.write_bytes(b"something else")
        return super().detect(images)


def run(photos, gallery, seconds=0.0, **options):
    """All photos, ten to a shard, by two workers."""
    options = {"scenes_per_shard": 10, **options}
    make_pool = options.pop("make_pool", partial(Processes, 2))
    detector_of = options.pop("detector_of", partial(SlowDetector, seconds))
    directory = gallery.snapshots.directory.parent / "bulk"
    return bulk([photos], gallery, directory, make_pool, detector_of, **options)


if __name__ == "__main__":
    with open_gallery(Path(sys.argv[2])) as gallery:
        sys.stdout.write(f"{run(Path(sys.argv[1]), gallery, float(sys.argv[3]))}\n")
