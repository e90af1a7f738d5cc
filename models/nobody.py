"""python -m models.nobody: how often a model sees somebody where nobody is."""

if __name__ == "__main__":
    from models.command import run

    run("models.nobody")

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw
from tqdm import tqdm

from models.command import command
from models.datasets.nobody import pictures_of_nobody
from models.detections import Detections
from models.detector import PROVIDERS, OnnxDetector
from models.evaluation.bootstrap import estimate, resamples

LEAST_SIDE = 64


@command
def main(arguments: Sequence[str] | None = None) -> None:
    options = _options(arguments)
    detector = OnnxDetector(
        options.model, device=options.device, score_threshold=options.score_threshold
    )
    if options.keep:
        options.keep.mkdir(parents=True, exist_ok=True)
    boxes: dict[str, list[int]] = {}
    pictures = pictures_of_nobody(
        options.count, options.photos, size=(options.width, options.height), seed=options.seed
    )
    progress = tqdm(pictures, total=options.count, unit="picture", disable=None)
    for number, (kind, picture) in enumerate(progress):
        (found,) = detector.detect([np.asarray(picture)])
        boxes.setdefault(kind, []).append(len(found.boxes))
        if options.keep and len(found.boxes):
            name = f"{found.scores.max():.3f}-{number:05d}-{kind.replace(' ', '-')}.jpg"
            _marked(picture, found).save(options.keep / name, quality=90)
    results = {
        kind: shares(counts)
        for kind, counts in (boxes | {"all": [n for own in boxes.values() for n in own]}).items()
    }
    rule = detector.card.detections
    threshold = rule.score_threshold if options.score_threshold is None else options.score_threshold
    print(f"{detector.card.name}, boxes scored above {threshold:g}, pictures that show nobody:")
    print(table(results))
    if options.json:
        content = {
            "model": {"name": detector.card.name, "fingerprint": detector.card.fingerprint},
            "score_threshold": threshold,
            "kinds": results,
        }
        options.json.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def shares(counts: Sequence[int]) -> dict[str, Any]:
    """What was seen in pictures that show nobody.

    Args:
        counts: of boxes in each picture.

    Returns:
        "pictures", "boxes"; "with_box", the share of pictures that have one, with its 95 %
        interval: value, low, high.
    """
    marked = np.array(counts) > 0
    resampled = resamples(len(marked)) @ marked / len(marked)
    share = estimate(float(marked.mean()), resampled)
    return {"pictures": len(counts), "boxes": sum(counts), "with_box": asdict(share)}


def table(results: dict[str, dict[str, Any]]) -> str:
    """The results for reading, in percent."""
    width = max(len(kind) for kind in results)
    lines = []
    for kind, own in results.items():
        value, low, high = (100 * own["with_box"][name] for name in ("value", "low", "high"))
        lines.append(
            f"{kind:<{width}}  {own['pictures']:5d} pictures, with a box {value:5.1f} % "
            f"({low:.1f} to {high:.1f}), {own['boxes']} boxes"
        )
    return "\n".join(lines)


def _marked(picture: Image.Image, found: Detections) -> Image.Image:
    marked = picture.copy()
    brush = ImageDraw.Draw(marked)
    for box, score in zip(found.boxes.tolist(), found.scores.tolist(), strict=True):
        brush.rectangle(box, outline=(255, 40, 40), width=2)
        brush.text((box[0] + 3, box[1] + 2), f"{score:.2f}", fill=(255, 40, 40))
    return marked


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m models.nobody",
        description="Show a model pictures without people: how many of them get a box?",
    )
    parser.add_argument("--model", type=Path, required=True, metavar="DIR", help="model directory")
    parser.add_argument(
        "--photos", type=Path, action="append", default=[], metavar="DIR",
        help="photographs that show nobody and that the model was not trained on; may be given "
        "several times",
    )  # fmt: skip
    parser.add_argument("--count", type=int, default=1000, help="pictures (default: %(default)s)")
    parser.add_argument("--width", type=int, default=960, help="of them, in pixels")
    parser.add_argument("--height", type=int, default=720, help="likewise")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--score-threshold", type=float, help="instead of the model's own")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="for the pictures with a box")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the results here")
    parser.add_argument("--device", choices=sorted(PROVIDERS), default="cpu")
    options = parser.parse_args(arguments)
    for flag, least in (("count", 1), ("width", LEAST_SIDE), ("height", LEAST_SIDE), ("seed", 0)):
        value = getattr(options, flag)
        if value < least:
            parser.error(f"argument --{flag}: expected {least} or more, got {value}")
    threshold = options.score_threshold
    if threshold is not None and not 0 <= threshold <= 1:
        parser.error(f"argument --score-threshold: expected 0 to 1, got {threshold:g}")
    if options.json and not options.json.parent.is_dir():
        parser.error(f"{options.json}: there is no directory {options.json.parent}")
    return options
