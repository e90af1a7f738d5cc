"""A gallery that does not fit into the memory there is."""

import subprocess
import sys
from pathlib import Path

import indexer
from indexer.tests.scenery import new_scene, open_gallery, people

DIM = 256
SCENES = 150
IN_EACH = 200
ROOT = Path(indexer.__file__).parent.parent
# The limit is set once everything is imported, for that alone takes hundreds of MiB of addresses.
LIMITED = """
import resource, sys
from pathlib import Path
import indexer.__main__, faiss, sqlalchemy.dialects.sqlite
from indexer.gallery.gallery import Gallery
from indexer.errors import GalleryError
used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
limit = used + int(sys.argv[2]) * 2**20
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
try:
    with Gallery.reopen(Path(sys.argv[1])) as gallery:
        print(gallery.stats().detections)
except GalleryError as error:
    sys.exit(f"error: {error}")
"""


def opened(directory, mib):
    command = [sys.executable, "-c", LIMITED, str(directory), str(mib)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def test_a_gallery_larger_than_the_memory_ends_with_one_clear_line_and_opens_with_more(tmp_path):
    with open_gallery(tmp_path, dim=DIM) as gallery:
        for number in range(SCENES):
            gallery.add(new_scene(str(number)), people(IN_EACH, dim=DIM, seed=number))

    for mib in (8, 16, 24, 32):  # 30,000 × 256 numbers of 4 bytes are 29 MiB
        small = opened(tmp_path, mib)
        assert small.returncode == 1, mib
        assert small.stderr.startswith("error: ")
        assert "memory" in small.stderr
        assert len(small.stderr.splitlines()) == 1, small.stderr
    assert opened(tmp_path, 1024).stdout == f"{SCENES * IN_EACH}\n"
