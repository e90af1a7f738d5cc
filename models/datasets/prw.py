"""Reader of PRW as its authors distribute it: video frames and MATLAB files.

    frames/c1s1_000151.jpg …                camera 1, sequence 1
    annotations/c1s1_000151.jpg.mat …       id, x, y, w, h of each person
    frame_train.mat, frame_test.mat         names of the frames of each split
    query_info.txt                          id, x, y, w, h, frame

Reference:
    Zheng et al., Person Re-identification in the Wild, CVPR 2017.
"""

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from models.datasets.mat import load_mat, missing_file, text_of
from models.datasets.scene import (
    UNLABELED,
    Query,
    Scene,
    SceneDataset,
    picture_size,
    require_pictures,
)
from models.errors import DatasetError

SOURCE = "its authors: https://github.com/liangzheng06/PRW-baseline"
UNCERTAIN = -2
"""PRW's own id of a person nobody named."""
BOX_VARIABLES = ("box_new", "anno_file", "anno_previous")
QUERIES = "query_info.txt"


def read_prw(directory: Path, *, split: str = "test", cross_camera: bool = False) -> SceneDataset:
    """One split; the test split with its queries. Coordinates are cut to whole pixels.

    People are renumbered in the order of their ids. A box that cutting leaves without an area is
    left out.

    Args:
        split: "train" or "test".
        cross_camera: As for `prw_queries`.

    Raises:
        DatasetError: A file is missing or damaged, or a record contradicts another.
    """
    if split not in ("train", "test"):
        raise DatasetError(f"{directory}: expected split train or test, got {split!r}")
    index = directory / f"frame_{split}.mat"
    listed = load_mat(index, (f"img_index_{split}",), SOURCE)
    names = [f"{text_of(name)}.jpg" for name in np.ravel(listed)]
    if not names:
        raise DatasetError(f"{index}: lists no frames")
    if len(set(names)) != len(names):
        raise DatasetError(f"{index}: a frame is listed twice")
    require_pictures(index, [directory / "frames" / name for name in names])
    labels = [_read_labels(directory / "annotations" / f"{name}.mat") for name in names]
    ids = np.unique(np.concatenate([own[:, 0] for own in labels]))
    source_ids = ids[ids != UNCERTAIN].astype(np.int64)
    scenes = tuple(
        _scene(directory / "frames" / name, own, source_ids)
        for name, own in zip(names, labels, strict=True)
    )
    people = tuple(source_ids.tolist())
    return SceneDataset(
        name=f"PRW {split}",
        scenes=scenes,
        queries=prw_queries(directory, scenes, people, cross_camera=cross_camera)
        if split == "test"
        else (),
        licence=f"as granted by {SOURCE}",
        source_ids=people,
        protocol="published",
    )


def prw_queries(
    directory: Path,
    scenes: Sequence[Scene],
    source_ids: Sequence[int],
    *,
    cross_camera: bool = False,
) -> tuple[Query, ...]:
    """The queries of the test split, in the gallery of all other test frames.

    Of a person who has two boxes in a frame, the first is to be found.

    Args:
        scenes, source_ids: Of the test split, as `read_prw` yields them.
        cross_camera: Leave the frames of the query's own camera out of its gallery. Queries of
            people whom no other camera shows are left out; the published code fails at them.

    Raises:
        DatasetError: The file is missing, or a line of it is not as expected.
    """
    path = directory / QUERIES
    try:
        lines = path.read_text(encoding="ascii").splitlines()
    except FileNotFoundError:
        raise missing_file(path, SOURCE) from None
    except (OSError, ValueError) as error:
        raise DatasetError(f"{path}: not readable as text: {error}") from error
    scene_of = {scene.name: index for index, scene in enumerate(scenes)}
    person_of = {source: person for person, source in enumerate(source_ids)}
    cameras = np.array([scene.camera for scene in scenes])
    shown = _first_boxes(scenes, len(source_ids))
    galleries: dict[int, NDArray[np.int64]] = {}
    queries = []
    for number, line in enumerate(lines):
        if not line.strip():
            continue
        what = f"{path}: line {number + 1}"
        source, box, frame = _query(line, what)
        if frame not in scene_of:
            raise DatasetError(f"{what}: {frame!r} is not one of the test frames")
        if source not in person_of:
            raise DatasetError(f"{what}: person {source} is in none of the test frames")
        scene, person = scene_of[frame], person_of[source]
        if scene not in galleries:
            others = np.arange(len(scenes)) != scene
            if cross_camera:
                others = cameras != cameras[scene]
            galleries[scene] = np.flatnonzero(others)
        gallery = galleries[scene]
        places = np.searchsorted(gallery, shown[person][:, 0])
        within = np.isin(shown[person][:, 0], gallery)
        truth = np.column_stack([places, shown[person][:, 1]])[within]
        if cross_camera and len(truth) == 0:
            continue
        queries.append(Query(scene, box, person, gallery, truth))
    return tuple(queries)


def _read_labels(path: Path) -> NDArray[np.float64]:
    """id, x, y, w, h [N, 5] of the people in a frame."""
    labels = np.asarray(load_mat(path, BOX_VARIABLES, SOURCE))
    if labels.size == 0:
        return np.zeros((0, 5))
    if labels.ndim != 2 or labels.shape[1] != 5 or labels.dtype.kind not in "iuf":
        raise DatasetError(
            f"{path}: expected numbers of shape (N, 5), got {labels.dtype} of {labels.shape}"
        )
    for number, row in enumerate(labels := labels.astype(np.float64)):
        person = row[0]
        named = person >= 1 or person == UNCERTAIN
        if not (np.isfinite(row).all() and named and person == int(person)):
            raise DatasetError(
                f"{path}: row {number + 1}: expected a whole id of {UNCERTAIN} or from 1 and "
                f"finite x, y, w, h, got {row.tolist()}"
            )
    return labels


def _scene(path: Path, labels: NDArray[np.float64], source_ids: NDArray[np.int64]) -> Scene:
    # Cut off at 0 first, then added and cut to whole pixels: the published order for annotations.
    # That of queries is another, see _query.
    places = np.maximum(labels[:, 1:], 0)
    boxes = np.concatenate([places[:, :2], places[:, :2] + places[:, 2:]], axis=1)
    boxes = np.trunc(boxes).astype(np.float32)
    kept = (boxes[:, 2:] > boxes[:, :2]).all(axis=1)
    ids = labels[kept, 0].astype(np.int64)
    camera = re.match(r"c(\d)", path.name)
    if camera is None:
        raise DatasetError(f"{path}: expected a name like c1s1_000151.jpg, c and the camera")
    width, height = picture_size(path)
    return Scene(
        name=path.name,
        path=path,
        width=width,
        height=height,
        boxes=boxes[kept],
        person_ids=np.where(ids == UNCERTAIN, UNLABELED, np.searchsorted(source_ids, ids)),
        ignore=np.zeros(len(ids), dtype=np.bool_),
        camera=camera[1],
    )


def _first_boxes(scenes: Sequence[Scene], people: int) -> list[NDArray[np.int64]]:
    """For each person, the scenes that show them, and their first box there: [S, 2]."""
    found: list[list[tuple[int, int]]] = [[] for _ in range(people)]
    for index, scene in enumerate(scenes):
        persons, firsts = np.unique(scene.person_ids, return_index=True)
        for person, first in zip(persons.tolist(), firsts.tolist(), strict=True):
            if person != UNLABELED:
                found[person].append((index, first))
    return [np.array(own, dtype=np.int64).reshape(-1, 2) for own in found]


def _query(line: str, what: str) -> tuple[int, NDArray[np.float32], str]:
    """Id, box and frame of a query's line."""
    parts = line.split()
    try:
        source, (x, y, w, h) = int(parts[0]), (float(part) for part in parts[1:-1])
    except (IndexError, ValueError):
        raise DatasetError(f"{what}: expected id x y w h frame, got {line.strip()!r}") from None
    # Cut to whole pixels first, then cut off at 0.
    box = np.maximum(np.trunc([x, y, x + w, y + h]), 0).astype(np.float32)
    if not (np.isfinite(box).all() and box[2] > box[0] and box[3] > box[1]):
        raise DatasetError(f"{what}: expected finite x, y, w, h with an area, got {line.strip()!r}")
    return source, box, f"{parts[-1]}.jpg"
