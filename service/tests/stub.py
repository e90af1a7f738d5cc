"""A detector for tests: people are coloured blocks on grey, and colour is identity.

`python -m service.tests.stub` runs the real service with it; STUB_SECONDS makes it slow.
"""

import io
import os
import sys
import threading
import time
from dataclasses import replace

import numpy as np
from PIL import Image

from models.detections import Detections
from models.detector import check_boxes
from models.model_card import DetectionRule, ModelCard
from models.preprocess import InputRule
from models.proposals import ProposalRule
from service.__main__ import main

DIM = 4
GREY = 127
COLOURS = {
    "red": (250, 20, 20),
    "green": (20, 250, 20),
    "blue": (20, 20, 250),
    "yellow": (240, 240, 10),
}


class StubDetector:
    """Finds blocks that do not share a column. Work waits for `go`, and takes `seconds`."""

    def __init__(self, seconds=0.0):
        self.seconds = seconds
        self.card = ModelCard(
            name="stub", head="nae", backbone="resnet50", embedding_dim=DIM, roi_size=(14, 14),
            input=InputRule(), proposals=ProposalRule(), detections=DetectionRule(),
            score_meaning="test",
        )  # fmt: skip
        self.go = threading.Event()
        self.go.set()
        self.asked = []

    def detect(self, images):
        self._wait("detect")
        return [self._detect(image) for image in images]

    def embed(self, image, boxes):
        self._wait("embed")
        checked = check_boxes(boxes, height=image.shape[0], width=image.shape[1])
        return np.stack([self._describe(image, box) for box in checked])

    def embed_crop(self, image):
        self._wait("embed_crop")
        return self._describe(image, (0, 0, image.shape[1], image.shape[0]))

    def _wait(self, call):
        self.asked.append(call)
        assert self.go.wait(30)
        time.sleep(self.seconds)

    def _detect(self, image):
        differs = (abs(image.astype(int) - GREY) > 60).any(axis=2)
        columns = np.flatnonzero(np.diff(differs.any(axis=0).astype(int), prepend=0, append=0))
        boxes = []
        for x1, x2 in columns.reshape(-1, 2):
            rows = np.flatnonzero(differs[:, x1:x2].any(axis=1))
            boxes.append((x1, rows[0], x2, rows[-1] + 1))
        boxes = [box for box in boxes if box[2] - box[0] > 4 and box[3] - box[1] > 8]
        boxes.sort(key=lambda box: box[1] - box[3])
        embeddings = [self._describe(image, box) for box in boxes]
        return Detections(
            np.array(boxes, np.float32).reshape(-1, 4),
            np.linspace(0.95, 0.75, len(boxes), dtype=np.float32),
            np.array(embeddings, np.float32).reshape(-1, self.card.embedding_dim),
        )

    def _describe(self, image, box):
        x1, y1, x2, y2 = (int(side) for side in box)
        colour = image[y1:y2, x1:x2].reshape(-1, 3).mean(axis=0) - GREY
        vector = np.array([*colour, 10], np.float32)
        return vector / np.linalg.norm(vector)


class OtherStub(StubDetector):
    """Another model: the same boxes, other embeddings, one number more, and nobody yellow."""

    def __init__(self, seconds=0.0):
        super().__init__(seconds)
        self.card = replace(self.card, name="other", embedding_dim=5, roi_size=(7, 7))

    def _detect(self, image):
        found = super()._detect(image)
        seen = [
            number
            for number, (x1, y1, x2, y2) in enumerate(found.boxes.astype(int))
            if abs(image[y1:y2, x1:x2].mean((0, 1)) - COLOURS["yellow"]).max() > 60
        ]
        return Detections(found.boxes[seen], found.scores[seen], found.embeddings[seen])

    def _describe(self, image, box):
        vector = np.array([*super()._describe(image, box)[::-1], 0.5], np.float32)
        return vector / np.linalg.norm(vector)


class KeenStub(OtherStub):
    """Another model, which sees everybody that the first one sees."""

    _detect = StubDetector._detect


def picture(*people, size=(320, 240), file_format="JPEG", seed=0):
    """A file with people: (colour name, box)."""
    pixels = np.full((size[1], size[0], 3), GREY, np.uint8)
    pixels[-1, -1] += np.uint8(seed)  # other bytes for the same picture; PNG keeps them
    for colour, (x1, y1, x2, y2) in people:
        pixels[y1:y2, x1:x2] = COLOURS[colour]
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(
        buffer, file_format, **({"quality": 95} if file_format == "JPEG" else {})
    )
    return buffer.getvalue()


def crop(colour, size=(48, 96)):
    """A file that is one person's crop."""
    return picture((colour, (0, 0, *size)), size=size)


if __name__ == "__main__":
    sys.exit(main(detector=StubDetector(float(os.environ.get("STUB_SECONDS", 0)))))
