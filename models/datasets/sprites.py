"""Rendered people without a background, as `models.datasets.people --sprites` writes them."""

import io
import re
import zipfile
import zlib
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from models.datasets.cutouts import as_sprite
from models.datasets.drawing import Sprite
from models.errors import DatasetError

NAME = re.compile(r"(\d+)_p(\d+)_(\d+)\.webp")
"""Identity, degrees that the camera looks down, and number."""


@dataclass(frozen=True, eq=False)
class RenderedPerson:
    """A person known from rendered sprites.

    Attributes:
        sprites: encoded RGBA pictures, cut to the person.
        pitches: of each the degrees that the camera looks down.
        names: where each is from, for messages.
    """

    sprites: tuple[bytes, ...]
    pitches: tuple[float, ...]
    names: tuple[str, ...]

    @property
    def views(self) -> int:
        return len(self.sprites)

    def seen(self, view: int, height: float, tilt: float, rng: np.random.Generator) -> Sprite:
        """An appearance from about the camera's height: `view` counts on from those nearest to it.

        Raises:
            DatasetError: naming where the sprite is from, if it cannot be read.
        """
        apart = np.abs(np.array(self.pitches) - np.degrees(tilt))
        near = np.flatnonzero(apart <= apart.min() + 1e-6)
        picture = self._picture(int(near[view % len(near)]))
        tall = max(8, round(height * float(rng.uniform(0.93, 1.05))))
        wide = max(4, round(tall * picture.width / picture.height))
        if rng.random() < 0.5:
            picture = picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        small = picture.convert("RGBa").resize((wide, tall), Image.Resampling.BOX).convert("RGBA")
        return as_sprite(small.convert("RGB"), small.getchannel("A"))

    def _picture(self, number: int) -> Image.Image:
        try:
            return Image.open(io.BytesIO(self.sprites[number])).convert("RGBA")
        except Exception as error:  # Pillow's readers raise many types, some undocumented
            raise DatasetError(f"{self.names[number]}: no sprite that can be read") from error


def read_sprites(source: Path) -> list[RenderedPerson]:
    """People of a ZIP of sprites, or of all ZIPs in a directory, in the order of their identities.

    Raises:
        DatasetError: nothing there, or no sprite in it.
    """
    by_person: dict[str, list[tuple[bytes, float, str]]] = defaultdict(list)
    archives = sorted(source.glob("*.zip")) if source.is_dir() else [source]
    for path in archives:
        try:
            with zipfile.ZipFile(path) as archive:
                for name in sorted(archive.namelist()):
                    if found := NAME.fullmatch(Path(name).name):
                        sprite = archive.read(name), float(found[2]), f"{path}: {name}"
                        by_person[found[1]].append(sprite)
        except (OSError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
            raise DatasetError(f"{path}: expected a ZIP of sprites: {error}") from error
    if not by_person:
        raise DatasetError(f"{source}: no sprites named like 00007_p10_001.webp")
    return [
        RenderedPerson(*zip(*by_person[identity], strict=True)) for identity in sorted(by_person)
    ]
