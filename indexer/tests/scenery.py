"""Made-up people and pictures, and a detector that finds the same in them every time."""

import hashlib
import io
import os
from types import SimpleNamespace

import numpy as np
from PIL import Image

from indexer.gallery.gallery import Gallery
from indexer.index.engines import MilvusServer
from indexer.records import GalleryModel, NewScene
from indexer.tests.servers import ENGINE, MILVUS, SERVER, create_database
from models.detections import Detections

DIM = 48


def unit(vectors):
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def people(count, *, dim=DIM, seed=0):
    """Random people, best first."""
    random = np.random.default_rng(seed)
    corners = random.uniform(0, 50, (count, 2)).astype(np.float32)
    return Detections(
        np.hstack([corners, corners + random.uniform(1, 50, (count, 2)).astype(np.float32)]),
        np.sort(random.random(count, np.float32))[::-1].copy(),
        unit(random.standard_normal((count, dim), np.float32)),
    )


def person(embedding, *, score=1.0):
    """One person who looks as given."""
    box = np.array([[1, 2, 3, 4]], np.float32)
    return Detections(box, np.array([score], np.float32), unit(np.float32(embedding))[None])


def new_scene(name, **metadata):
    """A scene whose file is its name."""
    content = name.encode()
    return NewScene(content, hashlib.sha256(content).hexdigest(), 100, 80, "JPEG", 1, **metadata)


def database_of(directory):
    """The database of the gallery in a directory: None is a file there.

    On the server that the fixture database names, for this process and those it starts, each
    directory has a database of its own.
    """
    server = os.environ.get(SERVER)
    if server is None:
        return None
    name = f"gallery_{hashlib.sha256(str(directory).encode()).hexdigest()[:32]}"
    create_database(server, name)
    return f"{server}/{name}"


def engine_of_tests():
    """Options for the engine that PERSON_SEARCH_TESTS_ENGINE names; none for the default."""
    engine = os.environ.get(ENGINE)
    return {} if engine is None else {"engine": engine, "milvus": MilvusServer(os.environ[MILVUS])}


def settings_of_tests(directory):
    """What makes a service keep its data directory where the tests are asked to keep theirs."""
    settings = {"data_dir": directory, "database_url": database_of(directory)}
    if ENGINE in os.environ:
        settings |= {"engine": os.environ[ENGINE], "milvus_uri": os.environ[MILVUS]}
    return settings


def open_gallery(directory, *, dim=DIM, **options):
    options = {"database": database_of(directory), **engine_of_tests(), **options}
    return Gallery.open_(
        directory, model_name="stub", model_fingerprint="5" * 64, embedding_dim=dim, **options
    )


def reopen_gallery(directory, **options):
    options = {"database": database_of(directory), **engine_of_tests(), **options}
    return Gallery.reopen(directory, **options)


def picture(seed, *, width=64, height=48):
    """A PNG of noise."""
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


class StubDetector:
    """Finds a person in the left half of every picture and a lesser one in the right half."""

    card = SimpleNamespace(name="stub", fingerprint="5" * 64, embedding_dim=DIM)

    def __init__(self, *_, **__):
        self.asked = 0

    def detect(self, images):
        self.asked += len(images)
        return [self._detect(image) for image in images]

    def embed(self, image, boxes):
        crops = [image[int(y1) : int(y2), int(x1) : int(x2)] for x1, y1, x2, y2 in boxes]
        return np.stack([self.embed_crop(crop) for crop in crops])

    def embed_crop(self, image):
        height, width = image.shape[:2]
        rows, columns = np.arange(4) * height // 4, np.arange(4) * width // 4
        return unit(image[rows][:, columns].astype(np.float32).ravel() - 127)

    def _detect(self, image):
        height, width = image.shape[:2]
        middle = width // 2
        boxes = np.array([[0, 0, middle, height], [middle, 0, width, height]], np.float32)
        return Detections(boxes, np.array([0.9, 0.6], np.float32), self.embed(image, boxes))


class OtherDetector(StubDetector):
    """Another model: nearly the same person on the left, none on the right, one at the bottom."""

    card = SimpleNamespace(name="other", fingerprint="6" * 64, embedding_dim=24)

    def embed_crop(self, image):
        return unit(super().embed_crop(image)[:24] + np.float32(5))

    def _detect(self, image):
        height, width = image.shape[:2]
        boxes = np.array([[0, 1, width // 2, height], [0, 0.8 * height, width, height]], np.float32)
        return Detections(boxes, np.array([0.8, 0.7], np.float32), self.embed(image, boxes))


DETECTORS = {each.card.fingerprint: each for each in (StubDetector, OtherDetector)}


def model_of(detector):
    card = detector.card
    return GalleryModel(card.name, card.fingerprint, card.embedding_dim)
