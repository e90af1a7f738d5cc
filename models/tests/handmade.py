"""Scenes made by hand, whose figures are known."""

from pathlib import Path

import numpy as np

from models.datasets.scene import Scene


def scene(name, people, *, size=(300, 120), camera="c1", exhaustive=True):
    """People are (box, person id) or (box, person id, ignore); size is width and height."""
    rows = [(*person, False)[:3] for person in people]
    return Scene(
        name=name,
        path=Path(f"{name}.jpg"),
        width=size[0],
        height=size[1],
        boxes=np.array([row[0] for row in rows], np.float32).reshape(-1, 4),
        person_ids=np.array([row[1] for row in rows], np.int64),
        ignore=np.array([row[2] for row in rows], np.bool_),
        camera=camera,
        exhaustive=exhaustive,
    )
