"""The figures: lines over gallery sizes, and NAE+'s attention. Only here is matplotlib needed."""

import importlib.util
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from models.errors import PersonSearchError
from models.packages import how_to_install
from models.reporting.people import Sighting
from models.reporting.words import HEAD_NAMES, count_of_seeds

# Okabe and Ito's colours: told apart without red and green; the markers without any colour.
STYLES = {
    "oim": ("#E69F00", "s", (0, (1.5, 1.2))),
    "nae": ("#0072B2", "o", "-"),
    "nae_plus": ("#009E73", "^", (0, (5, 1.5))),
    "nae_plus_res5": ("#CC79A7", "D", (0, (5, 1.5, 1, 1.5))),
}
WIDTH_INCHES = 8.5
PIXELS_PER_INCH = 160
CROP_HEIGHT, CROP_WIDTH = 240, 110
PAIRS_PER_ROW = 6
HEAT_SHARE = 0.6


def draw_gallery_sizes(
    path: Path,
    curves: Mapping[str, Mapping[int, Sequence[float]]],
    *,
    title: str,
    published: Mapping[str, tuple[int, float]] | None = None,
) -> None:
    """Draw search mAP against the gallery size, one line per head.

    Args:
        curves: of each head and size, the mAP in percent of each seed; the line is their mean, the
            band reaches from the least to the most.
        published: of each head, a size and the mAP in percent that is published there.
    """
    plt = _pyplot()
    figure, axes = plt.subplots(figsize=(WIDTH_INCHES, 4.8), layout="constrained")
    for head, by_size in curves.items():
        colour, marker, dashes = STYLES[head]
        sizes = sorted(by_size)
        values = [by_size[size] for size in sizes]
        axes.plot(
            sizes,
            [np.mean(value) for value in values],
            color=colour,
            marker=marker,
            linestyle=dashes,
            linewidth=2,
            markersize=7,
            label=f"{HEAD_NAMES[head]}, {count_of_seeds(max(map(len, values)))}",
        )
        if any(len(value) > 1 for value in values):
            least, most = [min(value) for value in values], [max(value) for value in values]
            axes.fill_between(sizes, least, most, color=colour, alpha=0.18, linewidth=0)
    for head, (size, value) in (published or {}).items():
        colour, marker, _ = STYLES[head]
        label = f"{HEAD_NAMES[head]}, published"
        points = {"s": 90, "facecolors": "none", "edgecolors": colour, "linewidths": 2}
        axes.scatter([size], [value], marker=marker, label=label, zorder=3, **points)
    axes.set_xscale("log")
    ticks = sorted({size for by_size in curves.values() for size in by_size})
    axes.set_xticks(ticks, labels=[f"{tick:,}" for tick in ticks])
    axes.minorticks_off()
    axes.set_xlabel("scenes in the gallery (log scale)", fontsize=12)
    axes.set_ylabel("search mAP, %", fontsize=12)
    axes.set_title(f"Search among more scenes: {title}", fontsize=13)
    axes.tick_params(labelsize=11)
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(fontsize=11, frameon=False, loc="outside right upper", handlelength=3)
    _save(plt, figure, path)


def draw_attention(path: Path, sightings: Sequence[Sighting], *, title: str) -> None:
    """Draw a sheet of people, each as the crop and the crop under its attention.

    Args:
        sightings: of the people, with attention [h, w] in [0, 1].
    """
    plt = _pyplot()
    columns = min(PAIRS_PER_ROW, len(sightings))
    rows = -(-len(sightings) // columns)
    figure = plt.figure(figsize=(WIDTH_INCHES, 0.5 + rows * 1.6), layout="constrained")
    figure.suptitle(title, fontsize=12)
    sheets = figure.subplots(rows, columns, squeeze=False)
    for axes in sheets.flat:
        axes.axis("off")
    heat = plt.get_cmap("inferno")
    for axes, sighting in zip(sheets.flat, sightings, strict=False):
        axes.imshow(pair(sighting, heat))
        axes.set_title(f"score {sighting.score:.2f}", fontsize=9, pad=3)
    scale = plt.cm.ScalarMappable(norm=plt.Normalize(0, 1), cmap=heat)
    bar = figure.colorbar(scale, ax=sheets, shrink=0.8, aspect=30, pad=0.01)
    bar.set_label("detection score of the pixel", fontsize=10)
    bar.ax.tick_params(labelsize=9)
    _save(plt, figure, path)


def pair(sighting: Sighting, heat: Any) -> NDArray[np.uint8]:
    """A person's crop beside the same crop under the heat: [CROP_HEIGHT, 2 × CROP_WIDTH + 6, 3].

    Args:
        heat: A colour map: values in [0, 1] to colours.
    """
    scale = min(CROP_WIDTH / sighting.crop.shape[1], CROP_HEIGHT / sighting.crop.shape[0])
    height, width = (max(1, round(side * scale)) for side in sighting.crop.shape[:2])
    crop = np.asarray(
        Image.fromarray(sighting.crop).resize((width, height), Image.Resampling.BICUBIC)
    )
    smooth = Image.fromarray(sighting.attention.astype(np.float32)).resize(
        (width, height), Image.Resampling.BILINEAR
    )
    colours = 255 * np.asarray(heat(np.asarray(smooth)))[..., :3]
    under_heat = ((1 - HEAT_SHARE) * crop + HEAT_SHARE * colours).astype(np.uint8)
    sheet = np.full((CROP_HEIGHT, 2 * CROP_WIDTH + 6, 3), 255, np.uint8)
    top, left = (CROP_HEIGHT - height) // 2, (CROP_WIDTH - width) // 2
    for start, picture in ((left, crop), (left + CROP_WIDTH + 6, under_heat)):
        sheet[top : top + height, start : start + width] = picture
    return sheet


def require_matplotlib() -> None:
    """Raises PersonSearchError where it is not installed: better before the work than after it."""
    if importlib.util.find_spec("matplotlib") is None:
        raise PersonSearchError(f"figures need matplotlib: {how_to_install('matplotlib')}")


def _pyplot() -> Any:
    require_matplotlib()
    import matplotlib

    matplotlib.use("Agg")  # draws into files, needs no screen
    import matplotlib.pyplot as plt

    return plt


def _save(plt: Any, figure: Any, path: Path) -> None:
    figure.savefig(path, dpi=PIXELS_PER_INCH)
    plt.close(figure)
