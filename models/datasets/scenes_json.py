"""Reader and writer of annotated scenes in one JSON file, format ps-real-eval/1.

A directory holds images/ and annotations.json:

    format:  "ps-real-eval/1"
    images:  [{file, width, height, camera, exhaustive, …}]
    boxes:   [{image, x, y, w, h, person_id, ignore?, …}]     image: index into images
    queries: [{image, box, person_id, exclude: [image…], …}]  box: index into boxes

person_id −1 is somebody unknown. A query's gallery is every image that is not in its exclude list.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np

from models.datasets.json_records import (
    check_boxes,
    corners,
    file_in_images,
    flag,
    read_json,
    read_records,
    real,
    whole,
)
from models.datasets.scene import (
    UNLABELED,
    Query,
    Scene,
    SceneDataset,
    check_size,
    require_pictures,
)
from models.errors import DatasetError

FORMAT = "ps-real-eval/1"


def read_scenes_json(directory: Path) -> SceneDataset:
    """The dataset in a directory; its person ids are renumbered to 0…N−1 in their own order.

    Raises:
        DatasetError: A file is missing, or a record is not as the format says.
    """
    path = directory / "annotations.json"
    content = read_json(path)
    found = content.get("format") if isinstance(content, dict) else type(content).__name__
    if found != FORMAT:
        raise DatasetError(f"{path}: expected format {FORMAT!r}, got {found!r}")

    images = read_records(path, content, "images", _image)
    boxes = read_records(path, content, "boxes", _box)
    queries = read_records(path, content, "queries", _query)
    _check_references(path, images, boxes, queries)

    source_ids = sorted({box["person_id"] for box in boxes} - {UNLABELED})
    person_id = {source: number for number, source in enumerate(source_ids)}
    person_id[UNLABELED] = UNLABELED
    in_image: list[list[dict[str, Any]]] = [[] for _ in images]
    for box in boxes:
        in_image[box["image"]].append(box)
    scenes = tuple(
        Scene(
            name=image["file"],
            path=directory / "images" / image["file"],
            width=image["width"],
            height=image["height"],
            boxes=np.array([box["corners"] for box in own], dtype=np.float32).reshape(-1, 4),
            person_ids=np.array([person_id[box["person_id"]] for box in own], dtype=np.int64),
            ignore=np.array([box["ignore"] for box in own], dtype=np.bool_),
            camera=image["camera"],
            exhaustive=image["exhaustive"],
        )
        for image, own in zip(images, in_image, strict=True)
    )
    require_pictures(path, [scene.path for scene in scenes])
    for scene in scenes:
        check_size(scene.path, (scene.width, scene.height))
    check_boxes(
        path,
        "boxes",
        [box["corners"] for box in boxes],
        [(images[box["image"]]["width"], images[box["image"]]["height"]) for box in boxes],
        range(len(boxes)),
    )
    return SceneDataset(
        name=str(content.get("name", directory.resolve().name)),
        scenes=scenes,
        queries=tuple(
            Query(
                scene=query["image"],
                box=np.array(boxes[query["box"]]["corners"], dtype=np.float32),
                person_id=person_id[query["person_id"]],
                gallery=np.setdiff1d(np.arange(len(scenes), dtype=np.int64), query["exclude"]),
            )
            for query in queries
        ),
        licence=str(content.get("licence", "not stated")),
        source_ids=tuple(source_ids),
    )


def write_scenes_json(directory: Path, content: dict[str, Any]) -> None:
    """Write annotations.json, as the format says, beside the images.

    Args:
        content: all but the format's name.
    """
    text = json.dumps({"format": FORMAT, **content}, separators=(",", ":"))
    (directory / "annotations.json").write_text(text, encoding="utf-8")


def refuse_another(directory: Path, *, note: str | None = None) -> None:
    """Refuse a directory that holds another dataset, so that none is overwritten or mixed.

    Args:
        note: how the new dataset is made, as its own note says; a dataset with the same note may be
            there already.

    Raises:
        DatasetError: another dataset is there.
    """
    path = directory / "annotations.json"
    if not path.exists():
        return
    content = read_json(path)
    there = content if isinstance(content, dict) else {}
    if note is None or there.get("note") != note:
        raise DatasetError(
            f"{directory} holds another dataset ({there.get('name', 'of another format')}): "
            "expected a new directory"
        )


def image_record(file: str, size: tuple[int, int], *, camera: str, sequence: str) -> dict[str, Any]:
    """The record of a generated picture, all of whose people have boxes; size: width and height."""
    return {
        "file": file, "width": size[0], "height": size[1], "camera": camera,
        "sequence": sequence, "frame": 0, "time_s": None, "exhaustive": True,
    }  # fmt: skip


def _image(record: Any) -> dict[str, Any]:
    return {
        "file": file_in_images(record["file"]),
        "width": whole(record["width"]),
        "height": whole(record["height"]),
        "camera": str(record["camera"]),
        "exhaustive": flag(record["exhaustive"]),
    }


def _box(record: Any) -> dict[str, Any]:
    box = corners(*(real(record[key]) for key in ("x", "y", "w", "h")))
    if whole(record["person_id"]) < UNLABELED:
        raise ValueError(f"expected a person_id of {UNLABELED} or more, got {record['person_id']}")
    return {
        "image": whole(record["image"]),
        "corners": box,
        "person_id": whole(record["person_id"]),
        "ignore": flag(record.get("ignore", False)),
    }


def _query(record: Any) -> dict[str, Any]:
    return {
        "image": whole(record["image"]),
        "box": whole(record["box"]),
        "person_id": whole(record["person_id"]),
        "exclude": np.array([whole(image) for image in record["exclude"]], dtype=np.int64),
    }


def _check_references(
    path: Path,
    images: list[dict[str, Any]],
    boxes: list[dict[str, Any]],
    queries: list[dict[str, Any]],
) -> None:
    for number, box in enumerate(boxes):
        if not 0 <= box["image"] < len(images):
            raise DatasetError(f"{path}: boxes[{number}] names image {box['image']}, out of range")
    for number, query in enumerate(queries):
        what = f"{path}: queries[{number}]"
        if not 0 <= query["box"] < len(boxes):
            raise DatasetError(f"{what} names box {query['box']}, out of range")
        for excluded in query["exclude"]:
            if not 0 <= excluded < len(images):
                raise DatasetError(f"{what} excludes image {excluded}, out of range")
        box = boxes[query["box"]]
        if (box["image"], box["person_id"]) != (query["image"], query["person_id"]):
            raise DatasetError(
                f"{what} names image {query['image']} and person {query['person_id']}, "
                f"its box has image {box['image']} and person {box['person_id']}"
            )
        if query["person_id"] == UNLABELED:
            raise DatasetError(f"{what} looks for a person without an id")
