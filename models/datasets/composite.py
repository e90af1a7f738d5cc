"""Crops of known people pasted into mosaics of scenes: identities and places in any mixture."""

import io
import zipfile
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from models.boxes import box_area, box_iou
from models.datasets.scene import UNLABELED, Scene
from models.errors import DatasetError

Pixels = NDArray[np.uint8]

TILES = ((1, 1), (2, 1), (2, 2), (3, 2), (3, 3), (4, 3))  # columns × rows of a mosaic
DISTRACTOR_COUNTS = (4, 10)
HEIGHTS = (45, 300)
RECTANGLES = 0.3
# Half the width of somebody upright, as a share of half the crop's, from the head to the feet.
OUTLINE = (
    (0.0, 0.03, 0.08, 0.15, 0.22, 0.5, 0.75, 0.95, 1.0),
    (0.2, 0.35, 0.42, 0.42, 0.85, 0.95, 0.8, 0.75, 0.65),
)
# A person less visible than this is neither shown to the network as one nor as background.
LEAST_VISIBLE = 0.4


@dataclass(frozen=True)
class CropSet:
    """Crops of people, by identity.

    Attributes:
        crops: per identity, the encoded pictures.
        names: the identity's name in the source.
    """

    crops: tuple[tuple[bytes, ...], ...]
    names: tuple[str, ...]

    def pick(self, rng: np.random.Generator) -> tuple[int, Image.Image]:
        """A random crop of a random identity."""
        person = int(rng.integers(len(self.crops)))
        content = self.crops[person][int(rng.integers(len(self.crops[person])))]
        return person, Image.open(io.BytesIO(content)).convert("RGB")


@dataclass(frozen=True)
class Composed:
    """One composed scene; as `Scene`, with its pixels.

    Attributes:
        pixels: [H, W, 3].
        boxes: [N, 4].
        person_ids: [N].
        ignore: [N].
    """

    pixels: Pixels
    boxes: NDArray[np.float32]
    person_ids: NDArray[np.int64]
    ignore: NDArray[np.bool_]


def read_crops(source: Path) -> CropSet:
    """Crops of a directory or a ZIP, named as Market-1501 does: IDENTITY_cCAMERA….jpg.

    Raises:
        DatasetError: nothing there, or no crop in it.
    """
    by_person: dict[str, list[bytes]] = defaultdict(list)
    if source.is_dir():
        for path in sorted(source.rglob("*.jpg")):
            by_person[path.name.split("_")[0]].append(path.read_bytes())
    else:
        try:
            with zipfile.ZipFile(source) as archive:
                for name in sorted(archive.namelist()):
                    if name.endswith(".jpg"):
                        by_person[Path(name).name.split("_")[0]].append(archive.read(name))
        except (OSError, zipfile.BadZipFile) as error:
            raise DatasetError(
                f"{source}: expected a directory or a ZIP of crops: {error}"
            ) from error
    people = sorted(name for name in by_person if name.isdigit())
    if not people:
        raise DatasetError(f"{source}: no crops named like 0007_c1s6_028546_04.jpg")
    return CropSet(tuple(tuple(by_person[name]) for name in people), tuple(people))


class Composer:
    """Makes scenes from scenes and crops; the same generator state makes the same scene."""

    def __init__(
        self,
        scenes: list[Scene],
        crops: CropSet,
        *,
        first_id: int,
        size: tuple[int, int],
        most_crops: int,
    ) -> None:
        """Keep the material.

        Args:
            scenes: exhaustively labelled scenes, for the mosaic and its people.
            crops: identities to paste.
            first_id: the person id of the first identity of the crops.
            size: width and height of the scenes that are made.
            most_crops: pasted per scene, at most; at least a third of it.
        """
        self._scenes = [scene for scene in scenes if scene.exhaustive]
        if not self._scenes:
            raise DatasetError("composing needs scenes in which every person is labelled")
        self._crops = crops
        self._first_id = first_id
        self._size = size
        self._most_crops = most_crops

    def compose(self, rng: np.random.Generator) -> Composed:
        """One scene."""
        width, height = self._size
        canvas = Image.new("RGB", self._size)
        layers = _Layers()
        columns, rows = TILES[int(rng.integers(len(TILES)))]
        for column in range(columns):
            for row in range(rows):
                self._tile(
                    canvas,
                    layers,
                    (column * width // columns, row * height // rows),
                    (-(-width // columns), -(-height // rows)),
                    rng,
                )
        for _ in range(int(rng.integers(*DISTRACTOR_COUNTS))):
            self._paste_distractor(canvas, layers, rng)
        for _ in range(int(rng.integers(self._most_crops // 3 + 1, self._most_crops + 1))):
            self._paste_crop(canvas, layers, rng)
        pixels = _recolour(np.asarray(canvas), rng)
        boxes, person_ids, visible = layers.arrays()
        ignore = visible < LEAST_VISIBLE
        person_ids[ignore] = UNLABELED
        return Composed(pixels, boxes, person_ids, ignore)

    def _tile(
        self,
        canvas: Image.Image,
        layers: "_Layers",
        corner: tuple[int, int],
        size: tuple[int, int],
        rng: np.random.Generator,
    ) -> None:
        """Fill one tile with a random part of a random scene."""
        scene = self._scenes[int(rng.integers(len(self._scenes)))]
        fit = max(size[0] / scene.width, size[1] / scene.height)
        scale = fit * float(rng.uniform(1.0, 1.6))
        left = float(rng.uniform(0, scene.width - size[0] / scale))
        top = float(rng.uniform(0, scene.height - size[1] / scale))
        window = (left, top, left + size[0] / scale, top + size[1] / scale)
        part = Image.fromarray(scene.read()).resize(size, Image.Resampling.BILINEAR, window)
        boxes = (scene.boxes - np.array([left, top, left, top])) * scale
        canvas.paste(part, corner)
        inside = np.clip(boxes, 0, np.array([*size, *size]))
        whole = box_area(boxes)
        for box, area, person, ignored in zip(
            inside, box_area(inside) / whole, scene.person_ids, scene.ignore, strict=True
        ):
            if area > 0:
                shifted = box + np.array([*corner, *corner])
                layers.add(shifted, int(person), visible=0.0 if ignored else float(area))

    def _paste_crop(self, canvas: Image.Image, layers: "_Layers", rng: np.random.Generator) -> None:
        person, crop = self._crops.pick(rng)
        height = round(float(np.exp(rng.uniform(*np.log(HEIGHTS)))))
        width = max(8, round(height * crop.width / crop.height * float(rng.uniform(0.85, 1.15))))
        box = layers.free_place(self._size, (width, height), rng)
        if box is None:
            return
        pixels = _recolour(np.asarray(crop.resize((width, height), Image.Resampling.BICUBIC)), rng)
        canvas.paste(Image.fromarray(pixels), (box[0], box[1]), _mask(width, height, rng))
        layers.add(np.array(box, np.float64), self._first_id + person, visible=1.0)

    def _paste_distractor(
        self, canvas: Image.Image, layers: "_Layers", rng: np.random.Generator
    ) -> None:
        """Paste a patch without people, so that an edge is no sign of a person."""
        scene = self._scenes[int(rng.integers(len(self._scenes)))]
        height = float(rng.uniform(0.2, 0.9)) * scene.height
        width = min(height * float(rng.uniform(0.35, 0.7)), scene.width - 1)
        left = float(rng.uniform(0, scene.width - width))
        top = float(rng.uniform(0, scene.height - height))
        window = np.array([[left, top, left + width, top + height]])
        if len(scene.boxes) and _covered(window, scene.boxes).max() > 0.1:
            return
        tall = round(float(np.exp(rng.uniform(*np.log(HEIGHTS)))))
        size = (max(8, round(tall * width / height)), tall)
        box = layers.free_place(self._size, size, rng)
        if box is None:
            return
        patch = Image.fromarray(scene.read()).resize(
            size, Image.Resampling.BILINEAR, tuple(window[0])
        )
        canvas.paste(patch, (box[0], box[1]), _mask(*size, rng))
        layers.cover(np.array(box, np.float64))


class _Layers:
    """The people on a canvas, in the order they were put there, and how visible each still is."""

    def __init__(self) -> None:
        self._boxes: list[NDArray[np.float64]] = []
        self._people: list[int] = []
        self._visible: list[float] = []

    def add(self, box: NDArray[np.float64], person: int, *, visible: float) -> None:
        self.cover(box)
        self._boxes.append(box)
        self._people.append(person)
        self._visible.append(visible)

    def cover(self, box: NDArray[np.float64]) -> None:
        if self._boxes:
            shares = _covered(np.array(self._boxes), box[None])[:, 0]
            self._visible = [v - float(s) for v, s in zip(self._visible, shares, strict=True)]

    def free_place(
        self, canvas: tuple[int, int], size: tuple[int, int], rng: np.random.Generator
    ) -> tuple[int, int, int, int] | None:
        """A place for a box that hides nobody for the most part; None when ten tries find none."""
        if size[0] >= canvas[0] or size[1] >= canvas[1]:
            return None
        for _ in range(10):
            x = int(rng.integers(0, canvas[0] - size[0]))
            y = int(rng.integers(0, canvas[1] - size[1]))
            box = (x, y, x + size[0], y + size[1])
            there = np.array([box], np.float64)
            old = np.array(self._boxes, np.float64).reshape(-1, 4)
            if not len(old) or (
                box_iou(old, there).max() < 0.35 and _covered(old, there).max() < 0.7
            ):
                return box
        return None

    def arrays(self) -> tuple[NDArray[np.float32], NDArray[np.int64], NDArray[np.float64]]:
        boxes = np.array(self._boxes, np.float32).reshape(-1, 4)
        return boxes, np.array(self._people, np.int64), np.array(self._visible)


def _covered(boxes: NDArray[np.floating], by: NDArray[np.floating]) -> NDArray[np.floating]:
    """Share [N, M] of each box's area that lies under another."""
    sides = np.minimum(boxes[:, None, 2:], by[None, :, 2:]) - np.maximum(
        boxes[:, None, :2], by[None, :, :2]
    )
    sides = np.clip(sides, 0, None)
    shares: NDArray[np.floating] = sides[..., 0] * sides[..., 1] / box_area(boxes)[:, None]
    return shares


def _mask(width: int, height: int, rng: np.random.Generator) -> Image.Image:
    """How much of a patch is pasted where: a rectangle, or the outline of somebody upright.

    Whatever is pasted, a person or not, gets one of these, so that no outline gives it away.
    """
    across = np.abs(np.linspace(-1, 1, width))[None, :]
    softness = float(rng.uniform(0.05, 0.4))
    if rng.random() < RECTANGLES:
        down = np.abs(np.linspace(-1, 1, height))[:, None]
        inside = np.minimum(1 - across, (1 - down) * height / width)
    else:
        body = np.interp(np.linspace(0, 1, height), *OUTLINE) * float(rng.uniform(0.85, 1.25))
        inside = body[:, None] - across
    share = np.clip(inside / softness + 0.5 * (softness > 0.1), 0, 1)
    return Image.fromarray(np.round(255 * share).astype(np.uint8))


def _recolour(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    """Another exposure and a slight colour cast."""
    gain = float(rng.uniform(0.75, 1.25)) * rng.uniform(0.94, 1.06, 3)
    shift = float(rng.uniform(-18, 18))
    table = np.arange(256)[:, None] * gain + shift
    lookup = np.clip(table, 0, 255).astype(np.uint8)
    return np.stack([lookup[pixels[..., c], c] for c in range(3)], axis=-1)
