"""python -m models.report: one page of tables and figures, ours beside the published ones."""

if __name__ == "__main__":
    from models.command import run

    run("models.report")

import argparse
import json
import re
from collections.abc import Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

from tqdm import tqdm

from models import bench
from models.command import command
from models.detector import PROVIDERS, OnnxDetector, model_directory
from models.evaluate import Found
from models.model_card import load_card
from models.reporting.cited import CITED, CUHK_SYSU, GALLERY_SIZE, published
from models.reporting.figures import draw_attention, draw_gallery_sizes, require_matplotlib
from models.reporting.measure import Progress, measure
from models.reporting.outcome import Cell, Outcome, Run, Stages, by_head
from models.reporting.page import Pictures, page
from models.reporting.people import choose_people, look_at
from models.reporting.subjects import Subject, read_subjects
from models.reporting.trends import trends
from models.reporting.words import HEAD_NAMES, command_line

PAGE = "report.md"
PEOPLE_SHOWN = 12
TIMED_SCENES, TIMED_ROUNDS = 4, 3


@command
def main(arguments: Sequence[str] | None = None) -> None:
    options = _options(arguments)
    require_matplotlib()
    runs = [Run(path, load_card(model_directory(path))) for path in options.model]
    groups = by_head(runs)
    plus = [run for own in groups.values() for run in own if run.card.pixel_wise]
    subjects = read_subjects(options.data, options.limit)
    device = ("--device", options.device) if options.device != "cpu" else ()
    subjects = [replace(own, arguments=(*own.arguments, *device)) for own in subjects]
    options.out.mkdir(parents=True, exist_ok=True)
    open_detector = partial(OnnxDetector, device=options.device)
    outcomes, pictures = [], Pictures()
    for subject in subjects:
        outcome, found = measure(subject, runs, open_detector, progress=_bar)
        timed = tuple(_time(run, open_detector(run.path), subject, device) for run in runs)
        outcome = replace(outcome, stages=timed)
        outcomes.append(outcome)
        _draw_sizes(outcome, options.out, pictures)
        for run in plus[:1]:
            detector = open_detector(run.path)
            _draw_attention(run, detector, subject, found[run.path], options.out, pictures)
    given = [word for path in options.model for word in ("--model", path)]
    given += [word for path in options.data for word in ("--data", path)]
    limit = ("--limit", options.limit) if options.limit else ()
    made_by = command_line("models.report", *given, "--out", options.out, *limit, *device)
    text = page(outcomes, runs, pictures, made_by)
    (options.out / PAGE).write_text(text, encoding="utf-8")
    if options.json:
        content = json.dumps(_for_json(outcomes, runs, made_by), indent=2, ensure_ascii=False)
        options.json.write_text(content + "\n", encoding="utf-8")
    print(options.out / PAGE)


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m models.report",
        description="Write the published tables and figures with what models here reach beside.",
    )
    parser.add_argument(
        "--model", type=Path, action="append", required=True, metavar="DIR",
        help="model directory, or the name of one that ships; several times: models of one head "
        "are seeds of one row",
    )  # fmt: skip
    parser.add_argument(
        "--data", type=Path, action="append", required=True, metavar="DIR",
        help="dataset, as models.evaluate reads it; several times: tables of each",
    )  # fmt: skip
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help=f"for {PAGE}")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures here")
    parser.add_argument("--limit", type=int, metavar="N", help="use the first N scenes only")
    parser.add_argument("--device", choices=sorted(PROVIDERS), default="cpu")
    options = parser.parse_args(arguments)
    if options.limit is not None and options.limit < 1:
        parser.error(f"argument --limit: expected 1 or more, got {options.limit}")
    return options


def _bar(title: str) -> Progress:
    return partial(tqdm, desc=title, unit="scene")


def _time(run: Run, detector: OnnxDetector, subject: Subject, device: tuple[str, ...]) -> Stages:
    folder = subject.dataset.scenes[0].path.parent
    pictures = bench.folder_pictures(folder, TIMED_SCENES)
    bench.measure(detector, pictures[:1], rounds=1, describe=False)
    seconds = bench.measure(detector, pictures, rounds=TIMED_ROUNDS, describe=False)
    medians = {stage: own["median_ms"] for stage, own in bench.summary(seconds).items()}
    told = ("--limit", TIMED_SCENES, "--rounds", TIMED_ROUNDS, *device)
    printed_by = command_line("models.bench", "--model", run.path, "--images", folder, *told)
    return Stages(str(run.path), medians, printed_by)


def _draw_sizes(outcome: Outcome, out: Path, pictures: Pictures) -> None:
    if not outcome.by_size:
        return
    curves = {
        head: {size: [100 * value for value in values] for size, values in by_size.items()}
        for head, by_size in outcome.by_size.items()
    }
    points: dict[str, tuple[int, float]] = {}
    if outcome.published_as == CUHK_SYSU:
        known = {head: published(head, CUHK_SYSU) for head in curves}
        points = {head: (GALLERY_SIZE, own.map) for head, own in known.items() if own}
    name = f"gallery-sizes-{_slug(outcome.title)}.png"
    title = outcome.published_as or outcome.title
    draw_gallery_sizes(out / name, curves, title=title, published=points)
    pictures.sizes[outcome.title] = name


def _draw_attention(
    run: Run, detector: OnnxDetector, subject: Subject, found: Found, out: Path, pictures: Pictures
) -> None:
    chosen = choose_people(found.detections, PEOPLE_SHOWN)
    if not chosen:
        return
    sightings = look_at(detector, subject.dataset, found.detections, chosen)
    name = f"attention-{_slug(subject.title)}.png"
    title = f"{HEAD_NAMES[run.card.head]} ({run.card.name}) on {subject.title}"
    draw_attention(out / name, sightings, title=title)
    pictures.attention[subject.title] = (name, str(run.path))


def _for_json(outcomes: Sequence[Outcome], runs: Sequence[Run], made_by: str) -> dict[str, Any]:
    def cell(own: Cell) -> list[dict[str, Any]]:
        pairs = zip(own.results, own.commands, strict=True)
        return [{"command": line, **result} for result, line in pairs]

    return {
        "command": made_by,
        "models": [
            {
                "path": str(run.path),
                "name": run.card.name,
                "head": run.card.head,
                "fingerprint": run.card.fingerprint,
            }
            for run in runs
        ],
        "datasets": [
            {
                "name": outcome.title,
                "published_as": outcome.published_as,
                "data": outcome.data,
                "searches": {head: cell(own) for head, own in outcome.whole.items()},
                "crossed": [
                    {"detector": detector, "reidentifier": head, "seeds": cell(own)}
                    for (detector, head), own in outcome.crossed.items()
                ],
                "without_cws": {head: cell(own) for head, own in outcome.unweighted.items()},
                "map_by_gallery_size": outcome.by_size,
                "stages": [asdict(own) for own in outcome.stages],
                "trends": [asdict(own) for own in trends(outcome)],
            }
            for outcome in outcomes
        ],
        "cited": [asdict(row) for row in CITED],
    }


def _slug(title: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")
