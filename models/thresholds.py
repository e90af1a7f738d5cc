"""python -m models.thresholds: from which similarity on two detections are a likely match, and from
which score on a box is a person."""

if __name__ == "__main__":
    from models.command import run

    run("models.thresholds")

import argparse
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from tqdm import tqdm

from models.command import command
from models.datasets.read import read_dataset
from models.datasets.scene import SceneDataset
from models.detector import PROVIDERS, OnnxDetector, model_directory
from models.errors import ModelFileError
from models.evaluate import find
from models.evaluation.thresholds import (
    DetectionThreshold,
    alike_rates,
    detection_threshold,
    match_rule,
    require_pairs,
    require_people,
)
from models.model_card import CARD_NAME, AlikeRates, MatchRule, ModelCard, save_card

LOWEST_SCORE = 0.05
"""The score threshold that candidates for a better one are found with."""


@command
def main(arguments: Sequence[str] | None = None) -> None:
    options = _options(arguments)
    dataset = read_dataset(options.data)
    if options.limit is not None:
        dataset = dataset.first(options.limit)
    require_pairs(dataset, rate=options.rate)
    if options.detection:
        require_people(dataset)
    detector = OnnxDetector(options.model, device=options.device)
    card = detector.card
    bar = partial(tqdm, unit="scene")
    described = find(
        detector, dataset, queries=(), gt_boxes=True, progress=partial(bar, desc="describe")
    )
    matching = match_rule(described, dataset, rate=options.rate)
    alike = alike_rates(described, dataset)
    best = None
    if options.detection:
        finder = OnnxDetector(options.model, device=options.device, score_threshold=LOWEST_SCORE)
        found = find(finder, dataset, queries=(), progress=partial(bar, desc="detect"))
        best = detection_threshold(found, dataset, lowest=LOWEST_SCORE)
    print(told(card, dataset, matching, alike, best))
    if options.write:
        print(_write(options.model, card, matching, alike, best))


def told(
    card: ModelCard,
    dataset: SceneDataset,
    matching: MatchRule,
    alike: AlikeRates | None,
    best: DetectionThreshold | None,
) -> str:
    """The thresholds, what they mean, and how alike different people look, for reading."""
    low, high = matching.interval
    lines = [
        f"{card.name} ({card.fingerprint[:12]}) on {dataset.name}: {len(dataset.scenes)} scenes, "
        f"{matching.people} people",
        f"likely match  cosine similarity above {matching.similarity:.4f}: at most "
        f"{100 * matching.false_match_rate:g} % of the pairs of different people are that similar",
        f"              measured {100 * matching.measured_rate:.2f} %, 95 % interval "
        f"{100 * low:.2f} to {100 * high:.2f} %, of {matching.pairs:,} pairs of annotated boxes",
        f"              missed   {100 * matching.missed_match_rate:.1f} % of the pairs of one "
        "person in two scenes",
    ]
    if alike is not None:
        where = "cameras" if alike.across_cameras else "scenes"
        rows = zip(alike.shares, alike.similarities, strict=True)
        lines += [
            f"alike         of {alike.pairs:,} pairs of different people in different {where}, at "
            "most this share is more alike:",
            *(f"              {100 * share:<8g} % above {one:.4f}" for share, one in rows),
        ]
    now = card.detections.score_threshold
    if best is None:
        lines.append(
            f"detection     score above {now:g}, as the card says; --detection measures another"
        )
    else:
        lines += [
            f"detection     score above {best.score:g}: the largest F2, {100 * best.f2:.1f} %; the "
            f"card says {now:g}",
            f"              precision {100 * best.precision:.1f} %, recall "
            f"{100 * best.recall:.1f} % of {best.people:,} people",
        ]
    if dataset.name in _trained_on(card):
        lines.append(f"the model was trained on {dataset.name}: expect less on other scenes")
    return "\n".join(lines)


def _trained_on(card: ModelCard) -> list[object]:
    scenes = card.training.get("scenes")
    named = scenes if isinstance(scenes, list) else []
    return [part.get("name") for part in named if isinstance(part, dict)]


def _write(
    model: Path,
    card: ModelCard,
    matching: MatchRule,
    alike: AlikeRates | None,
    best: DetectionThreshold | None,
) -> str:
    """Put the thresholds into the card, and say so."""
    changed = replace(card, matching=matching, alike=alike)
    if best is not None:
        rule = replace(card.detections, score_threshold=best.score)
        changed = replace(changed, detections=rule)
    directory = model.parent if model.name == CARD_NAME else model_directory(model)
    try:
        path = save_card(changed, directory)
    except OSError as error:
        raise ModelFileError(f"cannot write the card in {directory}: {error.strerror}") from error
    if changed.fingerprint == card.fingerprint:
        return f"written to {path}"
    return (
        f"written to {path}; its fingerprint is now {changed.fingerprint[:12]}: "
        "galleries of the model as it was have to be made anew"
    )


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m models.thresholds",
        description="Measure a model's thresholds on scenes that it was not trained on.",
    )
    parser.add_argument("--model", type=Path, required=True, metavar="DIR", help="model directory")
    parser.add_argument(
        "--data", type=Path, required=True, metavar="DIR",
        help="annotated scenes, as models.evaluate reads them",
    )  # fmt: skip
    parser.add_argument(
        "--rate", type=float, default=0.01,
        help="share of the pairs of different people that may be called a likely match "
        "(default: 0.01)",
    )  # fmt: skip
    parser.add_argument(
        "--detection",
        action="store_true",
        help="also measure the detection threshold, where F2 is largest: recall counts double",
    )
    parser.add_argument(
        "--write", action="store_true", help=f"put what was measured into the model's {CARD_NAME}"
    )
    parser.add_argument("--limit", type=int, metavar="N", help="use the first N scenes only")
    parser.add_argument("--device", choices=sorted(PROVIDERS), default="cpu")
    options = parser.parse_args(arguments)
    if not 0 < options.rate <= 0.5:
        parser.error(f"argument --rate: expected more than 0 and at most 0.5, got {options.rate:g}")
    if options.limit is not None and options.limit < 1:
        parser.error(f"argument --limit: expected 1 or more, got {options.limit}")
    return options
