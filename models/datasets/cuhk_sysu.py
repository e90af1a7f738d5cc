"""Reader of CUHK-SYSU as its authors distribute it: pictures and MATLAB files.

    Image/SSM/s1.jpg …
    annotation/Images.mat                  every box of every picture: x, y, w, h
    annotation/pool.mat                    names of the test pictures; all others are for training
    annotation/test/train_test/Train.mat   people of the training split and where they are
    annotation/test/train_test/TestGN.mat  queries and their galleries of N pictures

Reference:
    Xiao et al., Joint Detection and Identification Feature Learning for Person Search, CVPR 2017.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.datasets.mat import Structures, load_mat, structures, text_of
from models.datasets.scene import (
    UNLABELED,
    Query,
    Scene,
    SceneDataset,
    picture_size,
    require_pictures,
)
from models.errors import DatasetError

SOURCE = "its authors: https://github.com/ShuangLI59/person_search"
PICTURES = Path("Image", "SSM")
BOXES = Path("annotation", "Images.mat")
POOL = Path("annotation", "pool.mat")
PEOPLE = Path("annotation", "test", "train_test")
GALLERY_SIZES = (50, 100, 500, 1000, 2000, 4000)
WHOLE_POOL = -1

Place = tuple[int, int, int, int]
"""A box: x, y, w, h in pixels."""


class Sighting(NamedTuple):
    """A person in a picture, as one of the lists has it.

    Attributes:
        place: x, y, w, h in pixels.
        record: What names it in messages.
    """

    person: int
    picture: str
    place: Place
    record: str


def read_cuhk_sysu(
    directory: Path, *, split: str = "test", gallery_size: int = 100
) -> SceneDataset:
    """One split; the test split with its queries.

    People are numbered by their place in the list of the training or the test split, as in the
    published code. Boxes without width or height are left out, listed or not. A box gets its person
    where the split's list has the same numbers. A listed box that Images.mat does not have is
    added, and ignored in detection.

    Args:
        split: "train" or "test".
        gallery_size: One of GALLERY_SIZES, or WHOLE_POOL.

    Raises:
        DatasetError: A file is missing or damaged, or a record contradicts another.
    """
    if split not in ("train", "test"):
        raise DatasetError(f"{directory}: expected split train or test, got {split!r}")
    places = _read_places(directory)
    pool = _read_pool(directory, places)
    names = pool if split == "test" else sorted(places.keys() - set(pool))
    if not names:
        raise DatasetError(f"{directory / POOL}: leaves no pictures for the {split} split")
    require_pictures(directory / BOXES, [directory / PICTURES / name for name in names])
    read = _read_test_people if split == "test" else _read_train_people
    count, sightings = read(directory)
    scenes = _label(directory, {name: places[name] for name in names}, sightings)
    queries = cuhk_sysu_queries(directory, scenes, gallery_size) if split == "test" else ()
    return SceneDataset(
        name=f"CUHK-SYSU {split}",
        scenes=scenes,
        queries=queries,
        licence=f"as granted by {SOURCE}",
        source_ids=tuple(range(count)),
        protocol="published",
    )


def cuhk_sysu_queries(
    directory: Path, scenes: Sequence[Scene], gallery_size: int
) -> tuple[Query, ...]:
    """The queries of the test split, in galleries of another size.

    Args:
        scenes: All of the test split, as `read_cuhk_sysu` yields them.
        gallery_size: One of GALLERY_SIZES; WHOLE_POOL is the gallery of 50 and behind it every
            other picture but the query's own.

    Raises:
        DatasetError: A file is missing or damaged, or names what is not in the scenes.
    """
    if gallery_size not in (*GALLERY_SIZES, WHOLE_POOL):
        raise DatasetError(
            f"{directory}: expected a gallery size of {', '.join(map(str, GALLERY_SIZES))} or "
            f"{WHOLE_POOL} (the whole pool), got {gallery_size}"
        )
    index = _SceneIndex(scenes)
    everything = np.arange(len(scenes), dtype=np.int64)
    queries = []
    for number, (path, query, gallery) in enumerate(
        _lists(directory, 50 if gallery_size == WHOLE_POOL else gallery_size)
    ):
        asked = _asked(query, number, path)
        scene, box = index.find(asked)
        if scenes[scene].person_ids[box] == UNLABELED:  # two people may share a box
            raise DatasetError(
                f"{asked.record}: its person is not one of those in {_list_path(directory, 50)}"
            )
        listed = index.numbers(gallery.texts("imname"), f"{path}: gallery of query {number + 1}")
        truth = [
            (place, index.find(sighting)[1])
            for place, sighting in _shown(
                gallery, number, path, np.flatnonzero(~gallery.empty("idlocate"))
            )
        ]
        if gallery_size == WHOLE_POOL:
            others = np.setdiff1d(everything, np.append(listed, scene))
            listed = np.concatenate([listed, others])
        queries.append(
            Query(
                scene=scene,
                box=scenes[scene].boxes[box],
                person_id=number,
                gallery=listed,
                truth=np.array(truth, dtype=np.int64).reshape(-1, 2),
            )
        )
    return tuple(queries)


class _SceneIndex:
    """Finds scenes by name, and boxes by their numbers."""

    def __init__(self, scenes: Sequence[Scene]) -> None:
        self._scenes = scenes
        names = np.array([scene.name.encode() for scene in scenes], dtype=np.bytes_)
        self._order = np.argsort(names)
        self._sorted = names[self._order]

    def numbers(self, names: NDArray[np.bytes_], what: str) -> NDArray[np.int64]:
        """Which scenes [N] have these names."""
        places = np.searchsorted(self._sorted, names)
        places = np.minimum(places, len(self._sorted) - 1)
        unknown = self._sorted[places] != names
        if unknown.any():
            name = names[int(np.argmax(unknown))].decode("utf-8", "replace")
            raise DatasetError(f"{what}: {name!r} is not one of the test pictures")
        return np.asarray(self._order[places], dtype=np.int64)

    def find(self, sighting: Sighting) -> tuple[int, int]:
        """Which scene and which of its boxes somebody was seen in."""
        name = np.array([sighting.picture.encode()], dtype=np.bytes_)
        scene = int(self.numbers(name, sighting.record)[0])
        same = np.flatnonzero((self._scenes[scene].boxes == _corners(sighting.place)).all(axis=1))
        if len(same) == 0:
            raise DatasetError(
                f"{sighting.record}: {sighting.picture} has no box {list(sighting.place)}"
            )
        return scene, int(same[0])


def _corners(places: Any) -> NDArray[np.float32]:
    """x1 y1 x2 y2 of x, y, w, h, [..., 4]."""
    places = np.asarray(places, dtype=np.int64)
    return np.concatenate(
        [places[..., :2], places[..., :2] + places[..., 2:]], axis=-1, dtype=np.float32
    )


def _read_places(directory: Path) -> dict[str, list[Place]]:
    """Every picture's boxes that have an area."""
    path = directory / BOXES
    pictures = load_mat(path, ("Img",), SOURCE)
    places = {}
    for number, record in enumerate(_records(pictures, ("imname", "box"), f"{path}: Img")):
        name, boxes = text_of(record["imname"]), record["box"]
        what = f"{path}: Img({number + 1}), {name}"
        rows = [_place(box["idlocate"], what) for box in _records(boxes, ("idlocate",), what)]
        rows = [place for place in rows if _has_area(place)]
        if name in places:
            raise DatasetError(f"{what}: the picture is listed twice")
        places[name] = rows
    return places


def _read_pool(directory: Path, places: dict[str, list[Place]]) -> list[str]:
    """Names of the test pictures, in the file's order."""
    path = directory / POOL
    names = [text_of(name) for name in np.ravel(load_mat(path, ("pool",), SOURCE))]
    for number, name in enumerate(names):
        if name not in places:
            raise DatasetError(f"{path}: pool({number + 1}), {name!r}, is not in {BOXES.name}")
    if len(set(names)) != len(names):
        raise DatasetError(f"{path}: a picture is listed twice")
    return names


def _read_train_people(directory: Path) -> tuple[int, list[Sighting]]:
    """How many people there are, and where they are seen."""
    path = directory / PEOPLE / "Train.mat"
    people = np.ravel(load_mat(path, ("Train",), SOURCE))
    sightings = []
    for number, person in enumerate(people):
        what = f"{path}: Train({number + 1})"
        (record,) = _records(person, ("scene",), what, count=1)
        for seen in _records(record["scene"], ("imname", "idlocate"), what):
            place = _place(seen["idlocate"], what)
            if _has_area(place):
                sightings.append(Sighting(number, text_of(seen["imname"]), place, what))
    return len(people), sightings


def _read_test_people(directory: Path) -> tuple[int, list[Sighting]]:
    """How many people there are, and where they are seen: in their query, and in the gallery of 50.

    Of the gallery, the entries before the first one without a box.
    """
    sightings = []
    count = 0
    for path, query, gallery in _lists(directory, 50):
        sightings.append(_asked(query, count, path))
        rows = np.arange(int(np.argmax(np.append(gallery.empty("idlocate"), True))))
        sightings += [sighting for _, sighting in _shown(gallery, count, path, rows)]
        count += 1
    return count, sightings


def _list_path(directory: Path, size: int) -> Path:
    return directory / PEOPLE / f"TestG{size}.mat"


def _lists(directory: Path, size: int) -> Iterator[tuple[Path, Structures, Structures]]:
    """The file, the query and the gallery of each query."""
    path = _list_path(directory, size)
    for row in structures(path, path.stem, ("Query", "Gallery"), SOURCE):
        yield path, row["Query"], row["Gallery"]


def _asked(query: Structures, number: int, path: Path) -> Sighting:
    """Where the person of a query is shown."""
    what = f"{path}: query {number + 1}"
    if len(query) != 1:
        raise DatasetError(f"{what}: expected one person, got {len(query)}")
    place = _place(query.numbers("idlocate", 0), what)
    if not _has_area(place):
        raise DatasetError(f"{what}: expected a box with an area, got {list(place)}")
    return Sighting(number, query.texts("imname")[0].decode("utf-8", "replace"), place, what)


def _shown(
    gallery: Structures, number: int, path: Path, rows: NDArray[np.int64]
) -> Iterator[tuple[int, Sighting]]:
    """Entries of a gallery that show the query's person, and what they show."""
    for row, name in zip(rows.tolist(), gallery.texts("imname", rows).tolist(), strict=True):
        what = f"{path}: query {number + 1}, gallery entry {row + 1}"
        place = _place(gallery.numbers("idlocate", row), what)
        if not _has_area(place):
            continue
        yield row, Sighting(number, name.decode("utf-8", "replace"), place, what)


def _label(
    directory: Path, places: dict[str, list[Place]], sightings: Sequence[Sighting]
) -> tuple[Scene, ...]:
    """The scenes, with the people who were seen in them; of two at one box, the later listed."""
    seen: dict[str, list[Sighting]] = {name: [] for name in places}
    for sighting in sightings:
        if sighting.picture not in seen:
            raise DatasetError(f"{sighting.record}: {sighting.picture!r} is not in this split")
        seen[sighting.picture].append(sighting)
    scenes = []
    for name, own in places.items():
        boxes = list(own)
        people = [UNLABELED] * len(boxes)
        for sighting in seen[name]:
            if sighting.place not in boxes:
                boxes.append(sighting.place)
                people.append(UNLABELED)
            people[boxes.index(sighting.place)] = sighting.person
        path = directory / PICTURES / name
        width, height = picture_size(path)
        scenes.append(
            Scene(
                name=name,
                path=path,
                width=width,
                height=height,
                boxes=_corners(np.array(boxes, dtype=np.int64).reshape(-1, 4)),
                person_ids=np.array(people, dtype=np.int64),
                ignore=np.arange(len(boxes)) >= len(own),
                camera="unknown",
            )
        )
    return tuple(scenes)


def _records(
    array: Any, fields: tuple[str, ...], what: str, *, count: int | None = None
) -> NDArray[np.void]:
    """The structures of an array that SciPy read, flat."""
    names = getattr(getattr(array, "dtype", None), "names", None)
    if names is None and getattr(array, "size", None) == 0 and count is None:
        return np.zeros(0, dtype=[(field, object) for field in fields])
    if names is None or not set(fields) <= set(names):
        raise DatasetError(
            f"{what}: expected structures with fields {', '.join(fields)}, "
            f"got fields {', '.join(names or ['none'])}"
        )
    if count is not None and array.size != count:
        raise DatasetError(f"{what}: expected {count} structures, got {array.size}")
    return np.ravel(array)


def _place(array: Any, what: str) -> Place:
    """x, y, w, h of an array; its type may be too small to add them up in it."""
    values = np.ravel(array)
    if values.shape != (4,) or values.dtype.kind not in "iuf" or not np.isfinite(values).all():
        raise DatasetError(f"{what}: expected x, y, w, h, got {values.tolist()}")
    x, y, w, h = (int(value) for value in values)
    return x, y, w, h


def _has_area(place: Place) -> bool:
    return place[2] > 0 and place[3] > 0
