"""Any dataset on disk: which of the known layouts a path has, and its reader."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from models.datasets import cuhk_sysu, prw
from models.datasets.coco import annotation_file, read_coco
from models.datasets.cuhk_sysu import read_cuhk_sysu
from models.datasets.json_records import read_json
from models.datasets.prw import read_prw
from models.datasets.scene import SceneDataset
from models.datasets.scenes_json import FORMAT, read_scenes_json
from models.errors import DatasetError

GALLERY_SIZE = 100


class _Layout(NamedTuple):
    """A layout that is known.

    Attributes:
        missing: What a path lacks to have it, for a split; nothing where it has it.
        read: Its reader, of path, split, gallery size and whether to search across cameras.
        source: Where a dataset of this layout can be had; empty where anybody can make one.
        gallery_sizes, cross_camera: Whether its queries can be asked so.
    """

    name: str
    missing: Callable[[Path, str], list[str]]
    read: Callable[[Path, str, int, bool], SceneDataset]
    source: str = ""
    gallery_sizes: bool = False
    cross_camera: bool = False


def read_dataset(
    path: Path, *, split: str = "test", gallery_size: int = GALLERY_SIZE, cross_camera: bool = False
) -> SceneDataset:
    """The dataset at a path, in whichever layout it is.

    Args:
        path: A directory; or a file of COCO-style annotations.
        split: "train" or "test", of a dataset that has splits; the others are read whole.
        gallery_size: Pictures that a query of CUHK-SYSU is searched in, or −1 for all of them.
        cross_camera: For PRW: leave the frames of the query's own camera out of its gallery.

    Raises:
        DatasetError: The path has none of the layouts, the dataset cannot be asked in this way, or
            a file is not as its layout says.
    """
    if split not in ("train", "test"):
        raise DatasetError(f"{path}: expected split train or test, got {split!r}")
    if not path.exists():
        raise DatasetError(f"{path}: no such file or directory")
    lacking = {layout: layout.missing(path, split) for layout in LAYOUTS}
    found = next((layout for layout, missing in lacking.items() if not missing), None)
    if found is None:
        known = "".join(
            f"\n  {layout.name}: no {', no '.join(missing)}"
            + (f" (the dataset can be had from {layout.source})" if layout.source else "")
            for layout, missing in lacking.items()
        )
        raise DatasetError(f"{path}: none of the dataset layouts that are read:{known}")
    if gallery_size != GALLERY_SIZE and not found.gallery_sizes:
        raise DatasetError(
            f"{path}: {found.name} has no galleries of chosen size, got {gallery_size}"
        )
    if cross_camera and not found.cross_camera:
        raise DatasetError(f"{path}: {found.name} has no search across cameras; PRW has")
    return found.read(path, split, gallery_size, cross_camera)


def _lacks_scenes_json(path: Path, split: str) -> list[str]:
    file = path / "annotations.json"
    if not file.is_file():
        return ["annotations.json"]
    content = read_json(file)
    has_format = isinstance(content, dict) and content.get("format") == FORMAT
    return [] if has_format else [f"format {FORMAT!r} in annotations.json"]


def _lacks_coco(path: Path, split: str) -> list[str]:
    try:
        file = annotation_file(path)
    except DatasetError:
        return ["annotations.json, nor a single other .json"]
    if file.suffix != ".json":
        return [".json file"]
    content = read_json(file)
    has = content if isinstance(content, dict) else {}
    kinds = [kind for kind in ("images", "annotations") if kind not in has]
    return [f"list {kind!r} in {file.name}" for kind in kinds]


def _lacks_cuhk_sysu(path: Path, split: str) -> list[str]:
    lists = {"train": "Train.mat", "test": "TestG50.mat"}
    return _lacks(
        path, cuhk_sysu.PICTURES, cuhk_sysu.BOXES, cuhk_sysu.POOL, cuhk_sysu.PEOPLE / lists[split]
    )


def _lacks_prw(path: Path, split: str) -> list[str]:
    queries = [Path(prw.QUERIES)] if split == "test" else []
    return _lacks(path, Path("frames"), Path("annotations"), Path(f"frame_{split}.mat"), *queries)


def _lacks(path: Path, *names: Path) -> list[str]:
    return [str(name) for name in names if not (path / name).exists()]


LAYOUTS = (
    _Layout(
        "scenes and queries in JSON",
        _lacks_scenes_json,
        lambda path, split, size, across: read_scenes_json(path),
    ),
    _Layout("COCO-style", _lacks_coco, lambda path, split, size, across: read_coco(path)),
    _Layout(
        "CUHK-SYSU",
        _lacks_cuhk_sysu,
        lambda path, split, size, across: read_cuhk_sysu(path, split=split, gallery_size=size),
        cuhk_sysu.SOURCE,
        gallery_sizes=True,
    ),
    _Layout(
        "PRW",
        _lacks_prw,
        lambda path, split, size, across: read_prw(path, split=split, cross_camera=across),
        prw.SOURCE,
        cross_camera=True,
    ),
)
