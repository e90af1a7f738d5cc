"""Views that composed scenes begin with: parts of pedestrian scenes, films, photographs, drawn
streets, or nothing but colours."""

from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np
from PIL import Image, ImageFilter, ImageOps

from models.boxes import box_area
from models.datasets.material import Material
from models.datasets.scene import Scene
from models.datasets.stage import LEAST_HEIGHT, Stage, most_hidden

T = TypeVar("T")

# How often a view is of each kind, among those for which there is material.
KINDS = {"scene": 1.0, "photo": 0.65, "still": 0.12, "drawn": 0.45, "plain": 0.04}
# Of views that show nobody, by what they are for the rest: a stage with things, a photograph
# alone, plain colours.
EMPTY_KINDS = {"stage": 0.45, "photo": 0.3, "plain": 0.25}
# Heights of somebody who stands nearest, beside the view's, and how often.
REACHES = (((0.35, 0.6), 0.5), ((0.15, 0.35), 0.24), ((0.6, 0.9), 0.16), ((0.9, 1.6), 0.1))
# A photograph is shown up to this much coarser than the view's pixels.
COARSEST = 3.0
# Patches of scenery pasted as people are, so that an edge is no sign of a person; and things that
# are drawn.
DISTRACTORS, THINGS = (0, 4), (0, 5)
# Drawn views with a photograph's texture, where there are photographs.
TEXTURED = 0.6


def random_stage(
    material: Material, size: tuple[int, int], rng: np.random.Generator, *, populated: bool
) -> Stage:
    """A view of a random kind, before anybody or anything is put there.

    Args:
        material: with cameras.
        size: width and height in pixels.
        populated: whether it may show people already.

    Raises:
        DatasetError: a picture of the material cannot be read.
    """
    there = {
        "scene": populated and bool(material.scenes),
        "photo": bool(material.photos),
        "still": bool(material.stills),
        "drawn": bool(material.cameras),
        "plain": True,
    }
    stages: dict[str, Callable[[], Stage]] = {
        "scene": lambda: _pedestrian_stage(one_of(material.scenes, rng), size, rng),
        "photo": lambda: _picture_stage(_photo(material, size, rng), size, rng),
        "still": lambda: _picture_stage(Image.fromarray(one_of(material.stills, rng)), size, rng),
        "drawn": lambda: _drawn_stage(material, size, rng),
        "plain": lambda: _picture_stage(plain_picture(size, rng), size, rng),
    }
    return stages[_weighted({kind: KINDS[kind] for kind in KINDS if there[kind]}, rng)]()


def empty_picture(
    material: Material, size: tuple[int, int], rng: np.random.Generator
) -> Image.Image | None:
    """A view that shows nobody and nothing that stands there; None: take a stage instead.

    Raises:
        DatasetError: a photograph cannot be read.
    """
    kind = _weighted(EMPTY_KINDS, rng)
    if kind == "plain":
        return plain_picture(size, rng)
    if kind == "photo" and material.photos:
        return photo_view(material, size, rng)
    return None


def photo_view(material: Material, size: tuple[int, int], rng: np.random.Generator) -> Image.Image:
    """A part of a photograph, mirrored and lit at random.

    Args:
        material: with photographs.

    Raises:
        DatasetError: a photograph cannot be read.
    """
    return _window(_photo(material, size, rng), size, rng)[0]


def furnish(stage: Stage, material: Material, rng: np.random.Generator) -> None:
    """Put patches of scenery and drawn things on a stage.

    Raises:
        DatasetError: a picture of the material cannot be read.
    """
    for _ in range(int(rng.integers(*DISTRACTORS))):
        row, shape = stage.patch_size(rng)
        patch = empty_patch(material, shape, rng)
        if patch is not None:
            stage.put_patch(patch, row, rng)
    for _ in range(int(rng.integers(*THINGS))):
        stage.put_thing(rng)


def plain_picture(size: tuple[int, int], rng: np.random.Generator) -> Image.Image:
    """One colour, a gradient, stripes, squares, clouds or noise."""
    width, height = size
    colours = rng.uniform(0, 255, (2, 3)) if rng.random() < 0.5 else rng.uniform(0, 255, (2, 1))
    first, second = (np.broadcast_to(colour, 3) for colour in colours)
    kind = int(rng.integers(6))
    across, down = np.meshgrid(np.linspace(0, 1, width), np.linspace(0, 1, height))
    if kind == 0:
        share = np.zeros((height, width))
    elif kind == 1:
        angle = float(rng.uniform(0, 2 * np.pi))
        share = 0.5 + 0.5 * (np.cos(angle) * (2 * across - 1) + np.sin(angle) * (2 * down - 1))
    elif kind in (2, 3):
        columns, rows = rng.integers(2, 40, 2) if kind == 3 else (int(rng.integers(2, 60)), 0)
        share = (np.floor(across * columns) + np.floor(down * rows)) % 2
        if kind == 2 and rng.random() < 0.5:
            share = (np.floor(down * columns)) % 2
    else:
        cells = int(2 ** rng.uniform(1, 5)) if kind == 4 else max(8, height // 2)
        rough = Image.fromarray(rng.normal(0.5, 0.25, (cells, cells)).astype(np.float32))
        share = np.asarray(rough.resize(size, Image.Resampling.BICUBIC))
    share = np.clip(share, 0, 1)[..., None]
    pixels = (1 - share) * first + share * second
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


def empty_patch(
    material: Material, size: tuple[int, int], rng: np.random.Generator
) -> Image.Image | None:
    """A part of a picture that shows nobody; None if none is found.

    Raises:
        DatasetError: a picture of the material cannot be read.
    """
    sources = {"camera": 0.3 * bool(material.cameras), "photo": 0.7 * bool(material.photos)}
    sources["scene"] = 0.7 * bool(material.scenes)
    kind = _weighted({name: share for name, share in sources.items() if share}, rng)
    boxes = np.empty((0, 4))
    if kind == "photo":
        picture = _lit_anew(one_of(material.photos, rng).picture(), rng)
    elif kind == "camera":
        picture = one_of(material.cameras, rng).background
    else:
        scene = one_of(material.scenes, rng)
        picture, boxes = Image.fromarray(scene.read()), scene.boxes.astype(np.float64)
    height = float(rng.uniform(0.2, 0.95)) * picture.height
    width = min(height * size[0] / size[1], picture.width - 1)
    left = float(rng.uniform(0, picture.width - width))
    top = float(rng.uniform(0, picture.height - height))
    window = np.array([left, top, left + width, top + height])
    if most_hidden(boxes, window) > 0.1:
        return None
    return picture.resize(size, Image.Resampling.BILINEAR, tuple(window))


def one_of(things: Sequence[T], rng: np.random.Generator) -> T:
    """A random one of some."""
    return things[int(rng.integers(len(things)))]


def _weighted(shares: dict[str, float], rng: np.random.Generator) -> str:
    weights = np.array(list(shares.values()))
    return list(shares)[int(rng.choice(len(weights), p=weights / weights.sum()))]


def _photo(material: Material, size: tuple[int, int], rng: np.random.Generator) -> Image.Image:
    """A photograph that is large enough, if one is found soon; mirrored and lit at random."""
    for _ in range(6):
        picture = one_of(material.photos, rng).picture()
        if max(size[0] / picture.width, size[1] / picture.height) < COARSEST / 1.5:
            break
    return _lit_anew(picture, rng)


def _lit_anew(picture: Image.Image, rng: np.random.Generator) -> Image.Image:
    """The photograph mirrored, darker, brighter or of another hue, now and then blurred."""
    if rng.random() < 0.5:
        picture = ImageOps.mirror(picture)
    gains = np.exp(rng.normal(0, 0.25)) * np.exp(rng.normal(0, 0.06, 3))
    levels = (np.arange(256)[:, None] / 255 * gains).clip(0, 1) ** np.exp(rng.normal(0, 0.2))
    picture = picture.point((255 * levels).T.round().astype(int).ravel().tolist())
    if rng.random() < 0.15:
        picture = picture.filter(ImageFilter.GaussianBlur(float(rng.uniform(0.5, 2.5))))
    return picture


def _textured(picture: Image.Image, photo: Image.Image, rng: np.random.Generator) -> Image.Image:
    """A drawn picture with the light and dark of a photograph upon it."""
    shown, _, _ = _window(photo, picture.size, rng)
    grey = np.asarray(shown.convert("L"), np.float32) + 8
    rough = (grey / grey.mean()) ** float(rng.uniform(0.25, 0.8))
    pixels = np.asarray(picture, np.float32) * rough.clip(0.3, 2)[..., None]
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def _picture_stage(picture: Image.Image, size: tuple[int, int], rng: np.random.Generator) -> Stage:
    """A part of a picture of whose camera nothing is known: people may stand in its lower half."""
    shown, scale, _ = _window(picture, size, rng, lowest=0.5)
    height = size[1]
    horizon = float(rng.uniform(-0.3, 0.42)) * height
    far = max(float(rng.uniform(0.5, 0.75)) * height, horizon + 0.1 * height)
    return _reaching(
        shown, size, rng, horizon=horizon, far=far,
        tilt=float(rng.uniform(0.03, 0.4)), coarse=min(COARSEST, max(1.0, 0.8 * scale)),
    )  # fmt: skip


def _drawn_stage(material: Material, size: tuple[int, int], rng: np.random.Generator) -> Stage:
    camera = one_of(material.cameras, rng)
    picture, scale, (_, top) = _window(camera.background, size, rng)
    if material.photos and rng.random() < TEXTURED:
        picture = _textured(picture, _photo(material, size, rng), rng)
    picture = _lit_anew(picture, rng)
    horizon = min((camera.horizon - top) * scale, 0.4 * size[1])
    far = max((camera.far - top) * scale, horizon + 0.12 * size[1])
    return _reaching(
        picture, size, rng, horizon=horizon, far=min(far, 0.7 * size[1]), tilt=camera.tilt
    )


def _reaching(
    picture: Image.Image,
    size: tuple[int, int],
    rng: np.random.Generator,
    *,
    horizon: float,
    far: float,
    tilt: float,
    coarse: float = 1.0,
) -> Stage:
    """A stage on which those who stand nearest are small, tall or taller than the view."""
    height = size[1]
    shares = [share for _, share in REACHES]
    tallest = height * float(rng.uniform(*REACHES[int(rng.choice(len(shares), p=shares))][0]))
    tallest = max(tallest, 2.0 * LEAST_HEIGHT)
    # Feet of tall people, and now and then of others, are below the picture's edge.
    near = height * float(rng.uniform(1.0, 1.05))
    if tallest > 0.6 * height or rng.random() < 0.2:
        near = max(near, height * float(rng.uniform(1.0, 1.3)), 0.8 * tallest + 0.2 * height)
    slope = tallest / (near - horizon)
    far = max(far, horizon + LEAST_HEIGHT / slope)
    return Stage(
        picture, horizon=horizon, slope=slope, far=min(far, 0.95 * near), near=near, tilt=tilt,
        coarse=coarse,
    )  # fmt: skip


def _pedestrian_stage(scene: Scene, size: tuple[int, int], rng: np.random.Generator) -> Stage:
    """A part of a pedestrian scene; taken at eye level, so heads are at the horizon."""
    whole = Image.fromarray(scene.read())
    picture, scale, (left, top) = _window(whole, size, rng)
    boxes = (scene.boxes.astype(np.float64) - [left, top, left, top]) * scale
    inside = np.clip(boxes, 0, [*size, *size])
    visible = box_area(inside) / box_area(boxes)
    kept = (visible > 0) & ((inside[:, 2:] - inside[:, :2]).min(axis=1) >= 4)
    there = [
        (box, 0.0 if ignored else float(seen))
        for box, seen, ignored in zip(inside[kept], visible[kept], scene.ignore[kept], strict=True)
    ]
    horizon = float(np.median(boxes[:, 1])) if len(boxes) else 0.3 * size[1]
    tall = float(np.median(boxes[:, 3] - boxes[:, 1])) if len(boxes) else 0.5 * size[1]
    far = horizon + max(0.5 * tall, 0.15 * size[1])
    return Stage(
        picture, horizon=horizon, slope=1.0, far=far, near=max(far + 1, 1.03 * size[1]), tilt=0.05,
        there=there,
    )  # fmt: skip


def _window(
    picture: Image.Image,
    size: tuple[int, int],
    rng: np.random.Generator,
    *,
    lowest: float = 0.0,
) -> tuple[Image.Image, float, tuple[float, float]]:
    """A random part of a picture, resized; its scale, and its corner before that.

    Args:
        lowest: 0 if it may be anywhere, 1 if it is as low as can be.
    """
    fit = max(size[0] / picture.width, size[1] / picture.height)
    scale = fit * float(rng.uniform(1.0, 1.5))
    left = float(rng.uniform(0, picture.width - size[0] / scale))
    top = float(rng.uniform(lowest, 1)) * (picture.height - size[1] / scale)
    window = (left, top, left + size[0] / scale, top + size[1] / scale)
    return picture.resize(size, Image.Resampling.BICUBIC, window), scale, (left, top)
