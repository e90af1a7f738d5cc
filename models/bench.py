"""`python -m models.bench`: how fast a model file is, stage by stage, on this machine."""

if __name__ == "__main__":
    from models.command import run

    run("models.bench")

import argparse
import json
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter
from tqdm import tqdm

from models.command import command
from models.containers import kind_of_file
from models.cores import usable_cores
from models.detector import DEFAULT_MODEL, OnnxDetector
from models.errors import PersonSearchError
from models.image import FORMATS, encode_jpeg, read_image
from models.preprocess import prepare
from models.proposals import propose

DETECTION_STAGES = ("decode", "prepare", "scene graph", "proposals", "head", "detect")
STAGES = (*DETECTION_STAGES, "embed a box", "crop")


def measure(
    detector: OnnxDetector, pictures: list[bytes], *, rounds: int, describe: bool = True
) -> dict[str, list[float]]:
    """Seconds of each stage, one value per round and picture.

    Args:
        describe: Also time the description of a person who is given by a box, or by a crop.
    """
    seconds: dict[str, list[float]] = defaultdict(list)

    @contextmanager
    def timed(stage: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        seconds[stage].append(time.perf_counter() - start)

    card = detector.card
    for _ in tqdm(range(rounds), unit="round", disable=None):
        for content in pictures:
            with timed("decode"):
                pixels = read_image(content).pixels
            with timed("prepare"):
                prepared = prepare(pixels, card.input)
            with timed("scene graph"):
                feature_map, objectness, deltas = detector.scene_maps(prepared)
            with timed("proposals"):
                proposals, _ = propose(objectness, deltas, prepared.size, card.proposals)
            with timed("head"):
                detector.head_outputs(feature_map, proposals)
            with timed("detect"):
                detector.detect([pixels])
            if not describe:
                continue
            height, width = pixels.shape[:2]
            box = np.array([[0.4 * width, 0.2 * height, 0.5 * width, 0.7 * height]])
            with timed("embed a box"):
                detector.embed(pixels, box)
            x1, y1, x2, y2 = box[0].astype(int)
            with timed("crop"):
                detector.embed_crop(pixels[y1:y2, x1:x2])
    return seconds


def summary(seconds: dict[str, list[float]]) -> dict[str, dict[str, float]]:
    """Median and 95th percentile of each stage, in milliseconds."""
    stages = {}
    for stage, values in seconds.items():
        median, p95 = np.percentile(values, [50, 95]) * 1000
        stages[stage] = {"median_ms": round(float(median), 2), "p95_ms": round(float(p95), 2)}
    return stages


def folder_pictures(folder: Path, limit: int) -> list[bytes]:
    """The first picture files of a folder, by name.

    Raises:
        PersonSearchError: it has none.
    """
    paths = sorted(path for path in folder.glob("*") if kind_of_file(path) is not None)
    if not paths:
        raise PersonSearchError(f"no picture in {folder}: expected {', '.join(FORMATS)}")
    return [path.read_bytes() for path in paths[:limit]]


def sample_pictures(count: int, *, width: int, height: int) -> list[bytes]:
    """JPEG files of soft coloured noise: decoding and network cost as much as on photographs."""
    rng = np.random.default_rng(0)
    pictures = []
    for _ in range(count):
        coarse: NDArray[np.uint8] = rng.integers(0, 256, (height // 16, width // 16, 3), np.uint8)
        image = Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)
        pictures.append(encode_jpeg(np.asarray(image.filter(ImageFilter.GaussianBlur(1)))))
    return pictures


@command
def main(arguments: list[str] | None = None) -> int:
    """Print a table, then one line of JSON."""
    parser = argparse.ArgumentParser(prog="python -m models.bench", description=__doc__)
    parser.add_argument("--model", type=Path, default=DEFAULT_MODEL)
    parser.add_argument("--images", type=Path, help="a folder of pictures instead of made ones")
    parser.add_argument("--limit", type=int, default=4, help="pictures at most")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--size", type=int, nargs=2, default=(1280, 720), metavar=("W", "H"))
    parser.add_argument("--threads", type=int, default=0, help="0: one per core")
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    options = parser.parse_args(arguments)
    detector = OnnxDetector(options.model, threads=options.threads, device=options.device)
    if options.images:
        pictures = folder_pictures(options.images, options.limit)
    else:
        width, height = options.size
        pictures = sample_pictures(options.limit, width=width, height=height)
    if not pictures:
        raise PersonSearchError(f"expected a --limit of 1 or more, got {options.limit}")
    measure(detector, pictures[:1], rounds=1)
    seconds = measure(detector, pictures, rounds=options.rounds)
    print(f"{detector.card.name}, {options.device}, {len(pictures)} pictures × {options.rounds}")
    print(f"{'stage':<14}{'median ms':>10}{'p95 ms':>10}")
    stages = summary(seconds)
    for stage in STAGES:
        print(f"{stage:<14}{stages[stage]['median_ms']:>10.1f}{stages[stage]['p95_ms']:>10.1f}")
    per_second = 1 / float(np.median(seconds["decode"]) + np.median(seconds["detect"]))
    print(f"{per_second:.2f} images/s, decoded and detected one by one")
    result = {
        "model": detector.card.name,
        "device": options.device,
        "cores": usable_cores(),
        "images_per_s": round(per_second, 3),
        "stages": stages,
    }
    print(json.dumps(result))
    return 0
