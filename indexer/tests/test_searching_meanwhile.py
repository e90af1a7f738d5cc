"""Searches while everything else goes on: each answer shows one moment."""

import random
import threading
import time

import numpy as np
import pytest

from indexer.tests.scenery import new_scene, open_gallery, unit
from models.detections import Detections

DIM = 16
CROWD = 3


def crowd(query, chance):
    """Three people alike, so that a search for one finds all of a scene, or none."""
    noise = np.random.default_rng(chance.randrange(2**32)).standard_normal((CROWD, DIM), np.float32)
    boxes = np.tile(np.array([[1, 1, 9, 9]], np.float32), (CROWD, 1))
    return Detections(boxes, np.full(CROWD, 0.9, np.float32), unit(query + noise / 20))


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("searches", [1000, pytest.param(100_000, marks=pytest.mark.soak)])
def test_a_search_shows_one_moment_whatever_goes_on(tmp_path, searches, seed):
    query = unit(np.ones(DIM, np.float32))
    ended, wrong, times = threading.Event(), [], {"idle": [], "busy": []}

    def change(gallery, number):
        chance, mine = random.Random(seed + number), []
        try:
            while not ended.is_set():
                if len(mine) < 3 or chance.random() < 0.5:
                    scene = new_scene(f"{number} {chance.random()}")
                    mine.append(gallery.add(scene, crowd(query, chance)).scene.id)
                else:
                    gallery.remove(mine.pop(chance.randrange(len(mine))))
                if len(mine) > 40:
                    gallery.remove(mine.pop())
                if number == 0 and chance.random() < 0.02:
                    gallery.upkeep.compact()
        except Exception as error:
            wrong.append(repr(error))

    def search(gallery, count, into):
        for _ in range(count):
            began = time.perf_counter()
            hits = gallery.search(query, k=1000, min_score=0.5)
            into.append(time.perf_counter() - began)
            per_scene = {}
            for hit in hits:
                per_scene.setdefault(hit.scene.id, []).append(hit)
                assert hit.detection.scene_id == hit.scene.id
                assert abs(hit.score - hit.detection.score * hit.similarity) < 1e-6
            torn = {id for id, found in per_scene.items() if len(found) != CROWD}
            if torn:
                wrong.append(f"of {torn} only some people are there")

    with open_gallery(tmp_path, dim=DIM) as gallery:
        chance = random.Random(seed)
        for number in range(40):
            gallery.add(new_scene(str(number)), crowd(query, chance))
        writers = [threading.Thread(target=change, args=(gallery, n)) for n in range(2)]
        for writer in writers:
            writer.start()
        search(gallery, searches, times["busy"])
        ended.set()
        for writer in writers:
            writer.join()
        assert wrong == []
        search(gallery, 300, times["idle"])
        stats = gallery.stats()
    assert stats.last_change > 100
    for name, seconds in times.items():
        p50, p99 = np.percentile(seconds, [50, 99]) * 1e3
        print(f"{name}: p50 {p50:.1f} ms, p99 {p99:.1f} ms, {stats.last_change} changes")  # noqa: T201
