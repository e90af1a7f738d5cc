"""Reader of COCO-style annotations with a person_id for each box.

    images:      [{id, file_name, width, height, camera?, exhaustive?}]
    annotations: [{id, image_id, bbox: [x, y, w, h], person_id?, category_id?, iscrowd?}]
    categories?: [{id, name}]                               only the one named "person" is read
    queries?:    [{image, box, person_id, exclude: [image…]}]       ids of images and annotations
    licenses?:   [{name}]

person_id is −1, null or missing for somebody unknown; iscrowd boxes are ignored. A query's gallery
is every image that is not in its exclude list. Without queries there is one for each person and
camera: the first of the camera's images that shows the person, searched in all other images,
provided that one of them shows the person too.

The pictures lie in images/ beside the file, or beside its folder.

Reference:
    Lin et al., Microsoft COCO: Common Objects in Context, ECCV 2014.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

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

CATEGORY = "person"


class _Image(NamedTuple):
    id: int
    file: str
    size: tuple[int, int] | None
    camera: str
    exhaustive: bool


class _Box(NamedTuple):
    id: int | None
    image: int
    category: int | None
    corners: tuple[float, float, float, float]
    person: int
    ignore: bool


class _Asked(NamedTuple):
    image: int
    box: int
    person: int
    exclude: tuple[int, ...]


def read_coco(path: Path) -> SceneDataset:
    """The dataset of a JSON file; its person ids are renumbered to 0…N−1 in their own order.

    Args:
        path: The file, or a directory that has it as annotations.json or as its only .json.

    Raises:
        DatasetError: A file is missing, or a record is not as the format says.
    """
    path = annotation_file(path)
    content = read_json(path)
    if not isinstance(content, dict):
        raise DatasetError(f"{path}: expected an object, got {type(content).__name__}")
    images = read_records(path, content, "images", _image)
    annotations = read_records(path, content, "annotations", _box)
    boxes = _only_people(path, content, annotations)
    number = _numbered(path, "images", [image.id for image in images])
    own: list[list[_Box]] = [[] for _ in images]
    place_of = {}
    for box in boxes:
        if box.image not in number:
            raise DatasetError(f"{path}: annotation {box.id} names image {box.image}, not listed")
        place_of[box.id] = number[box.image], len(own[number[box.image]])
        own[number[box.image]].append(box)
    source_ids = sorted({box.person for box in boxes} - {UNLABELED})
    person_of = {source: person for person, source in enumerate(source_ids)}
    person_of[UNLABELED] = UNLABELED
    pictures = _picture_folder(path)
    require_pictures(path, [pictures / image.file for image in images])
    scenes = tuple(
        _scene(pictures, image, in_image, person_of)
        for image, in_image in zip(images, own, strict=True)
    )
    sizes = {
        image.id: (scene.width, scene.height) for image, scene in zip(images, scenes, strict=True)
    }
    kept = {id(box) for box in boxes}
    check_boxes(
        path,
        "annotations",
        [box.corners for box in boxes],
        [sizes[box.image] for box in boxes],
        [place for place, box in enumerate(annotations) if id(box) in kept],
    )
    if "queries" in content:
        _numbered(path, "annotations", [box.id for box in boxes])
        asked = read_records(path, content, "queries", _asked)
        queries = _listed_queries(path, asked, scenes, number, place_of, person_of)
    else:
        queries = _own_queries(scenes, len(source_ids))
    return SceneDataset(
        name=path.stem if path.stem != "annotations" else path.resolve().parent.name,
        scenes=scenes,
        queries=queries,
        licence=_licence(content),
        source_ids=tuple(source_ids),
    )


def annotation_file(path: Path) -> Path:
    """The JSON file for a path: the path itself, its annotations.json, or its only .json.

    Raises:
        DatasetError: There is none, or there are several.
    """
    if not path.is_dir():
        return path
    if (path / "annotations.json").is_file():
        return path / "annotations.json"
    found = sorted(path.glob("*.json"))
    if len(found) != 1:
        names = ", ".join(file.name for file in found) or "none"
        raise DatasetError(f"{path}: expected annotations.json or one other .json, got {names}")
    return found[0]


def _picture_folder(path: Path) -> Path:
    folders = [folder / "images" for folder in path.resolve().parents[:2]]
    for folder in folders:
        if folder.is_dir():
            return folder
    raise DatasetError(f"{path}: expected the pictures in {folders[0]} or {folders[1]}")


def _scene(
    pictures: Path, image: _Image, boxes: Sequence[_Box], person_of: dict[int, int]
) -> Scene:
    path = pictures / image.file
    width, height = check_size(path, image.size)
    return Scene(
        name=image.file,
        path=path,
        width=width,
        height=height,
        boxes=np.array([box.corners for box in boxes], dtype=np.float32).reshape(-1, 4),
        person_ids=np.array([person_of[box.person] for box in boxes], dtype=np.int64),
        ignore=np.array([box.ignore for box in boxes], dtype=np.bool_),
        camera=image.camera,
        exhaustive=image.exhaustive,
    )


def _listed_queries(
    path: Path,
    asked: Sequence[_Asked],
    scenes: Sequence[Scene],
    number: dict[int, int],
    place_of: dict[int | None, tuple[int, int]],
    person_of: dict[int, int],
) -> tuple[Query, ...]:
    queries = []
    for place, query in enumerate(asked):
        what = f"{path}: queries[{place}]"
        if query.box not in place_of:
            raise DatasetError(f"{what} names annotation {query.box}, which is no person listed")
        if query.person == UNLABELED:
            raise DatasetError(f"{what} looks for a person without an id")
        scene, box = place_of[query.box]
        person = int(scenes[scene].person_ids[box])
        if number.get(query.image) != scene or person_of.get(query.person) != person:
            raise DatasetError(
                f"{what} names image {query.image} and person {query.person}, "
                f"its annotation shows somebody else in {scenes[scene].name}"
            )
        unknown = set(query.exclude) - number.keys()
        if unknown:
            raise DatasetError(f"{what} excludes image {min(unknown)}, which is not listed")
        excluded = np.array([number[image] for image in query.exclude], dtype=np.int64)
        gallery = np.setdiff1d(np.arange(len(scenes), dtype=np.int64), excluded)
        queries.append(Query(scene, scenes[scene].boxes[box], person, gallery))
    return tuple(queries)


def _own_queries(scenes: Sequence[Scene], people: int) -> tuple[Query, ...]:
    """A query for each person and camera, where the gallery has an answer."""
    shown: list[dict[int, int]] = [{} for _ in range(people)]
    for index, scene in enumerate(scenes):
        for box, (person, ignored) in enumerate(
            zip(scene.person_ids.tolist(), scene.ignore.tolist(), strict=True)
        ):
            if person != UNLABELED and not ignored:
                shown[person].setdefault(index, box)
    galleries: dict[int, NDArray[np.int64]] = {}
    queries = []
    for person, places in enumerate(shown):
        asked: set[str] = set()
        for index, box in places.items():
            camera = scenes[index].camera
            if len(places) > 1 and camera not in asked:
                asked.add(camera)
                if index not in galleries:
                    galleries[index] = np.delete(np.arange(len(scenes), dtype=np.int64), index)
                queries.append(Query(index, scenes[index].boxes[box], person, galleries[index]))
    return tuple(queries)


def _only_people(path: Path, content: dict[str, Any], boxes: list[_Box]) -> list[_Box]:
    if not content.get("categories"):
        return boxes
    categories = read_records(path, content, "categories", _category)
    people = {number for number, name in categories if name == CATEGORY}
    if not people:
        names = ", ".join(name for _, name in categories)
        raise DatasetError(f"{path}: expected a category named {CATEGORY!r}, got {names}")
    for place, box in enumerate(boxes):
        if box.category is None:
            raise DatasetError(f"{path}: annotations[{place}] has no 'category_id'")
    return [box for box in boxes if box.category in people]


def _numbered(path: Path, kind: str, ids: Sequence[int | None]) -> dict[int, int]:
    """The place of each id."""
    places: dict[int, int] = {}
    for place, number in enumerate(ids):
        if number is None or number in places:
            raise DatasetError(
                f"{path}: expected each of {kind} to have an id of its own, got {number}"
            )
        places[number] = place
    return places


def _image(record: Any) -> _Image:
    file = file_in_images(record["file_name"])
    size = None
    if "width" in record or "height" in record:
        size = whole(record["width"]), whole(record["height"])
    return _Image(
        id=whole(record["id"]),
        file=file,
        size=size,
        camera=str(record.get("camera", "unknown")),
        exhaustive=flag(record.get("exhaustive", True)),
    )


def _box(record: Any) -> _Box:
    x, y, width, height = (real(value) for value in record["bbox"])
    box = corners(x, y, width, height)
    person = record.get("person_id")
    person = UNLABELED if person is None else whole(person)
    if person < UNLABELED:
        raise ValueError(f"expected a whole person_id of {UNLABELED} or more, got {person}")
    return _Box(
        id=None if record.get("id") is None else whole(record["id"]),
        image=whole(record["image_id"]),
        category=None if record.get("category_id") is None else whole(record["category_id"]),
        corners=box,
        person=person,
        ignore=flag(record.get("iscrowd", False)),
    )


def _category(record: Any) -> tuple[int, str]:
    return whole(record["id"]), str(record["name"])


def _asked(record: Any) -> _Asked:
    return _Asked(
        image=whole(record["image"]),
        box=whole(record["box"]),
        person=whole(record["person_id"]),
        exclude=tuple(whole(image) for image in record["exclude"]),
    )


def _licence(content: dict[str, Any]) -> str:
    licences = content.get("licenses")
    found = licences if isinstance(licences, list) else []
    names = [
        str(licence["name"]) for licence in found if isinstance(licence, dict) and "name" in licence
    ]
    return ", ".join(names) or "not stated"
