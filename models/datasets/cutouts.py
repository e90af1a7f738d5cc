"""People cut out of pictures and films, as sprites that can be put into a scene."""

import math
import zipfile
import zlib
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageChops

from models.datasets.drawing import Look, Sprite, cloth, draw_person
from models.errors import DatasetError, ImageError, UnsupportedImageError
from models.image import ImageLimits, read_image
from models.packages import how_to_install

# Half the width of somebody upright, as a share of half the crop's, from the head to the feet.
OUTLINE = (
    (0.0, 0.03, 0.08, 0.15, 0.22, 0.5, 0.75, 0.95, 1.0),
    (0.2, 0.35, 0.42, 0.42, 0.85, 0.95, 0.8, 0.75, 0.65),
)
# Of crops, how many are pasted whole, with straight edges.
RECTANGLES = 0.35
# Where garments begin and end, from the crown (0) to the soles (1) of somebody filmed.
NECK, WAIST, ANKLES = 0.17, 0.5, 0.93
# A film begins with so many frames that show nobody.
EMPTY_FRAMES = 5
# Crops may be of any size and shape.
CROP_LIMITS = ImageLimits(min_side=1, max_ratio=math.inf)
# What differs from the background by more grey levels, in any channel, is a person.
APART = 28


class Person(Protocol):
    """Somebody who can be shown in scenes."""

    @property
    def views(self) -> int:
        """How many of their appearances are worth showing."""
        ...

    def seen(self, view: int, height: float, tilt: float, rng: np.random.Generator) -> Sprite:
        """One appearance.

        Args:
            view: below `views`.
            height: of the person in pixels, about.
            tilt: radians that the camera looks down.
        """
        ...


@dataclass(frozen=True)
class CroppedPerson:
    """A person known from crops.

    Attributes:
        crops: encoded pictures, each of the person and little else.
        names: where each is from, for messages.
    """

    crops: tuple[bytes, ...]
    names: tuple[str, ...]

    @property
    def views(self) -> int:
        return len(self.crops)

    def picture(self, view: int) -> Image.Image:
        """One crop.

        Raises:
            DatasetError: naming where it is from, if it cannot be read.
        """
        try:
            return Image.fromarray(read_image(self.crops[view], CROP_LIMITS).pixels)
        except UnsupportedImageError as error:
            raise DatasetError(f"{self.names[view]}: a crop that is no picture") from error
        except ImageError as error:
            raise DatasetError(f"{self.names[view]}: a crop cannot be read: {error}") from error

    def seen(self, view: int, height: float, tilt: float, rng: np.random.Generator) -> Sprite:
        """The crop, blended in at its rim or along a person's outline.

        Raises:
            DatasetError: naming where the crop is from, if it cannot be read.
        """
        crop = self.picture(view)
        tall = max(8, round(height))
        wide = max(4, round(height * crop.width / crop.height * float(rng.uniform(0.88, 1.12))))
        crop = crop.resize((wide, tall), Image.Resampling.BICUBIC)
        if rng.random() < 0.5:
            crop = crop.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        return as_sprite(crop, soft_outline(wide, tall, rng), whole=True)


@dataclass(frozen=True)
class DrawnPerson:
    """A person who is drawn, from any side and at any moment of a step."""

    look: Look
    views: int = 8

    def seen(self, view: int, height: float, tilt: float, rng: np.random.Generator) -> Sprite:
        facing, phase = rng.uniform(0, 2 * np.pi, 2)
        return draw_person(self.look, height, facing=float(facing), phase=float(phase), tilt=tilt)


@dataclass(frozen=True, eq=False)
class FilmedPerson:
    """A person known from a film with a still background, in clothes of chosen colours.

    Attributes:
        cutouts: RGBA pictures, cut to the person.
        upper, lower: RGB in [0, 255] of the garments; None: as filmed.
    """

    cutouts: tuple[Image.Image, ...]
    upper: NDArray[np.float32] | None = None
    lower: NDArray[np.float32] | None = None
    views: int = 8

    def seen(self, view: int, height: float, tilt: float, rng: np.random.Generator) -> Sprite:
        cutout = self.cutouts[int(rng.integers(len(self.cutouts)))]
        tall = max(8, round(height))
        wide = max(4, round(height * cutout.width / cutout.height))
        small = cutout.resize((wide, tall), Image.Resampling.BICUBIC)
        if rng.random() < 0.5:
            small = small.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        pixels = np.asarray(small, np.float32)
        dressed = _dressed(pixels[..., :3], pixels[..., 3], self.upper, self.lower)
        mask = Image.fromarray(pixels[..., 3].astype(np.uint8))
        return as_sprite(Image.fromarray(dressed.astype(np.uint8)), mask)

    def redressed(self, rng: np.random.Generator) -> "FilmedPerson":
        """The same person in clothes of other colours."""
        upper, lower = (np.array(cloth(rng, bright), np.float32) for bright in (0.6, 0.35))
        return FilmedPerson(self.cutouts, upper, lower, self.views)


def read_crops(source: Path) -> list[CroppedPerson]:
    """People of a directory or a ZIP of crops, named as Market-1501 does: IDENTITY_cCAMERA….jpg.

    They come in the order of their identities; what has no number for an identity is left out.

    Raises:
        DatasetError: nothing there, or no crop in it.
    """
    by_person: dict[str, list[tuple[bytes, str]]] = defaultdict(list)

    def add(name: str, crop: bytes) -> None:
        by_person[Path(name).name.split("_")[0]].append((crop, f"{source}: {name}"))

    try:
        if source.is_dir():
            for path in sorted(source.rglob("*.jpg")):
                add(str(path.relative_to(source)), path.read_bytes())
        else:
            with zipfile.ZipFile(source) as archive:
                for name in sorted(archive.namelist()):
                    if name.endswith(".jpg"):
                        add(name, archive.read(name))
    except (OSError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
        raise DatasetError(f"{source}: expected a directory or a ZIP of crops: {error}") from error
    people = sorted(name for name in by_person if name.isdigit())
    if not people:
        raise DatasetError(f"{source}: no crops named like 0007_c1s6_028546_04.jpg")
    return [CroppedPerson(*zip(*by_person[name], strict=True)) for name in people]


def as_sprite(picture: Image.Image, mask: Image.Image, *, whole: bool = False) -> Sprite:
    """A cut-out that stands on the middle of its lower edge.

    Args:
        picture: RGB.
        mask: coverage, of the same size.
        whole: the person's box is the whole picture, not only what the mask covers.
    """
    colour = ImageChops.multiply(picture, Image.merge("RGB", [mask] * 3))
    return Sprite(colour, mask, mask.width // 2, mask.height, foot=0.2, whole=whole)


def soft_outline(width: int, height: int, rng: np.random.Generator) -> Image.Image:
    """How much of a patch [height, width] is pasted where, as a coverage of 0 to 255: a rectangle,
    or the outline of somebody upright.

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


def _dressed(
    pixels: NDArray[np.float32],
    cover: NDArray[np.float32],
    upper: NDArray[np.float32] | None,
    lower: NDArray[np.float32] | None,
) -> NDArray[np.float32]:
    """Pixels [H, W, 3] with garments of other colours; their folds stay."""
    height = len(pixels)
    grey = pixels @ np.array([0.3, 0.59, 0.11], np.float32)
    made = pixels.copy()
    for colour, first, end in ((upper, NECK, WAIST), (lower, WAIST, ANKLES)):
        rows = slice(round(first * height), max(round(first * height) + 1, round(end * height)))
        inside = cover[rows] > 127
        if colour is None or not inside.any():
            continue
        level = max(float(np.median(grey[rows][inside])), 12.0)
        shade = np.clip(0.35 + 0.65 * grey[rows] / level, 0.3, 1.7)
        made[rows] = shade[..., None] * colour
    return made.clip(0, 255)


def film_people(
    frames: Sequence[NDArray[np.uint8]], *, least_height: float = 0.3
) -> tuple[list[FilmedPerson], NDArray[np.uint8]]:
    """People who walk, one by one, into a film whose camera stands still.

    The film begins with nobody in it. Whoever is not the background is a person; each visit is
    another person.

    Args:
        frames: [H, W, 3] each, one or more of one size, in order.
        least_height: of a person, as a share of the picture's. Whoever stands at its edge is cut
            out as far as they are seen.

    Returns:
        The people who are seen upright in 5 frames or more, and the background [H, W, 3].

    Raises:
        DatasetError: SciPy is missing.
    """
    try:
        from scipy import ndimage
    except ImportError:
        raise DatasetError(
            f"finding people in films needs SciPy: {how_to_install('scipy')}"
        ) from None
    still = np.median(np.stack(frames[:EMPTY_FRAMES]), axis=0).astype(np.float32)
    height, width = still.shape[:2]
    visits: list[list[Image.Image]] = []
    present = False
    for frame in frames:
        apart = np.abs(frame.astype(np.float32) - still)
        apart = ndimage.gaussian_filter(apart.max(axis=2), 1.0)
        marked = ndimage.binary_closing(apart > APART, iterations=2)
        marked = ndimage.binary_opening(ndimage.binary_fill_holes(marked), iterations=3)
        parts, count = ndimage.label(marked)
        sizes = ndimage.sum(marked, parts, range(1, count + 1)) if count else np.zeros(1)
        if float(np.max(sizes)) < 0.015 * height * width:
            present = False
            still = 0.9 * still + 0.1 * frame  # light changes
            continue
        if not present:
            visits.append([])
            present = True
        body = parts == int(np.argmax(sizes)) + 1
        rows, columns = np.flatnonzero(body.any(axis=1)), np.flatnonzero(body.any(axis=0))
        top, bottom = int(rows[0]), int(rows[-1]) + 1
        left, right = int(columns[0]), int(columns[-1]) + 1
        if bottom - top > max(least_height * height, 1.8 * (right - left)):
            cover = (255 * ndimage.gaussian_filter(body.astype(np.float32), 0.8)).astype(np.uint8)
            pixels = np.dstack([frame, cover])[top:bottom, left:right]
            visits[-1].append(Image.fromarray(pixels, "RGBA"))
    people = [FilmedPerson(tuple(cutouts)) for cutouts in visits if len(cutouts) >= 5]
    return people, still.astype(np.uint8)


def read_film(path: Path, *, every: int = 3) -> list[NDArray[np.uint8]]:
    """Every so many frames of a video, [H, W, 3] each.

    Raises:
        DatasetError: it cannot be read, shows nothing or changes its size; or PyAV is missing.
    """
    try:
        import av
    except ImportError:
        raise DatasetError(f"{path}: reading films needs PyAV: {how_to_install('av')}") from None
    try:
        with av.open(str(path)) as film:
            pictures = film.decode(video=0) if film.streams.video else ()
            frames = [
                frame.to_ndarray(format="rgb24").astype(np.uint8, copy=False)
                for i, frame in enumerate(pictures)
                if i % every == 0
            ]
    except (OSError, av.error.FFmpegError) as error:
        raise DatasetError(f"{path}: not readable as a film: {error}") from error
    if not frames:
        raise DatasetError(f"{path}: expected a film, got no pictures")
    sizes = {frame.shape[:2] for frame in frames}
    if len(sizes) > 1:
        told = ", ".join(f"{width} × {height}" for height, width in sorted(sizes))
        raise DatasetError(f"{path}: expected pictures of one size, got {told}")
    return frames
