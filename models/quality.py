"""python -m models.quality: how good a model is, where it fails, what its answers look like."""

if __name__ == "__main__":
    from models.command import run

    run("models.quality")

import argparse
import json
import re
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from models.command import command
from models.containers import kind_of_file
from models.datasets.scene import Scene, SceneDataset
from models.detector import PROVIDERS, OnnxDetector
from models.errors import DatasetError, ImageError
from models.evaluate import find
from models.evaluation.breakdown import break_down, measure_light
from models.evaluation.found import Found
from models.evaluation.search import answers
from models.evaluation.thresholds import MatchRates, match_rates
from models.image import FORMATS, read_image
from models.reporting.measure import Progress, describe
from models.reporting.quality_page import Measured, page
from models.reporting.quality_pictures import draw_all
from models.reporting.subjects import Subject, read_subjects
from models.reporting.words import GROUND_TRUTH, command_line

PAGE, FIGURES = "quality.md", "quality.json"


@command
def main(arguments: Sequence[str] | None = None) -> None:
    options = _options(arguments)
    subjects = read_subjects(options.data, options.limit)
    for subject in subjects:
        answers(subject.dataset)  # one that cannot be answered is told before hours of work
    photos = photographs(options.photos, options.limit) if options.photos else None
    detector = OnnxDetector(options.model, device=options.device)
    options.out.mkdir(parents=True, exist_ok=True)
    titles = [*(subject.title for subject in subjects), *(["photos"] if photos else [])]
    folders = _folders(titles)
    measured = [
        _of_scenes(detector, subject, options.out, folder)
        for subject, folder in zip(subjects, folders, strict=False)
    ]
    if photos:
        measured.append(_of_photographs(detector, *photos, options.out, folders[-1]))
    made_by = _made_by(options)
    text = page(detector.card, options.model, measured, made_by)
    (options.out / PAGE).write_text(text, encoding="utf-8")
    content = _for_json(detector, options.model, measured, made_by)
    text = json.dumps(content, indent=2, ensure_ascii=False)
    (options.out / FIGURES).write_text(text + "\n", encoding="utf-8")
    print(options.out / PAGE)


def photographs(folder: Path, limit: int | None = None) -> tuple[SceneDataset, list[str]]:
    """The pictures of a folder and its subfolders, as scenes without annotations.

    Args:
        limit: the first so many, by name.

    Returns:
        The scenes; and the names of pictures that cannot be read, with the reason.

    Raises:
        DatasetError: there are fewer than two pictures that can be read.
    """
    if not folder.is_dir():
        raise DatasetError(f"there is no folder {folder}")
    inside = [path.relative_to(folder) for path in folder.rglob("*")]
    names = sorted(
        path
        for path in inside
        if not any(part.startswith(".") for part in path.parts)
        and kind_of_file(folder / path) is not None
    )
    scenes: list[Scene] = []
    left_out = []
    for name in names:
        if len(scenes) == limit:
            break
        try:
            image = read_image(folder / name)
        except (ImageError, OSError) as error:
            left_out.append(f"{name.as_posix()} ({error})")
            continue
        scenes.append(
            Scene(
                name=name.as_posix(),
                path=folder / name,
                width=image.width,
                height=image.height,
                boxes=np.zeros((0, 4), np.float32),
                person_ids=np.zeros(0, np.int64),
                ignore=np.zeros(0, np.bool_),
                camera="",
                exhaustive=False,
            )
        )
    if len(scenes) < 2:
        problems = f"; left out: {', '.join(left_out)}" if left_out else ""
        raise DatasetError(
            f"{folder}: expected two or more pictures ({', '.join(FORMATS)}), "
            f"got {len(scenes)}{problems}"
        )
    return SceneDataset(folder.resolve().name, tuple(scenes), (), "not stated", ()), left_out


def _of_scenes(detector: OnnxDetector, subject: Subject, out: Path, folder: Path) -> Measured:
    dataset, title = subject.dataset, subject.title
    found = find(detector, dataset, progress=_bar(f"{title}: find"))
    annotated = describe(detector, dataset, found, {}, progress=_bar(f"{title}: annotated boxes"))[
        GROUND_TRUTH
    ]
    light = measure_light(dataset, progress=_bar(f"{title}: light"))
    (out / folder).mkdir(parents=True, exist_ok=True)
    return Measured(
        title=title,
        arguments=subject.arguments,
        folder=folder,
        data={
            "name": dataset.name,
            "licence": dataset.licence,
            "protocol": dataset.protocol,
            "scenes": len(dataset.scenes),
            "persons": len(dataset.person_ids),
            "queries": len(dataset.queries),
        },
        breakdown=break_down(found, dataset, light, annotated=annotated),
        matching=_matching(detector, annotated, dataset),
        left_out=(),
        drawn=draw_all(found, dataset, out / folder),
    )


def _of_photographs(
    detector: OnnxDetector, photos: SceneDataset, left_out: list[str], out: Path, folder: Path
) -> Measured:
    found = find(detector, photos, progress=_bar(f"{photos.name}: find"))
    (out / folder).mkdir(parents=True, exist_ok=True)
    data = {"name": photos.name, "scenes": len(photos.scenes)}
    drawn = draw_all(found, photos, out / folder)
    return Measured(photos.name, (), folder, data, None, None, left_out, drawn)


def _matching(detector: OnnxDetector, annotated: Found, dataset: SceneDataset) -> MatchRates | None:
    """What the card's match rule does here, if it has one and there are people enough to tell."""
    rule = detector.card.matching
    if rule is None:
        return None
    try:
        return match_rates(annotated, dataset, rule.similarity)
    except DatasetError:
        return None


def _folders(titles: Sequence[str]) -> list[Path]:
    """Where the pictures of each go: beside the page, or into a folder each if they are several."""
    if len(titles) == 1:
        return [Path()]
    slugs = (re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-") for title in titles)
    return [Path(f"{number}-{slug}".strip("-")) for number, slug in enumerate(slugs, 1)]


def _bar(title: str) -> Progress:
    return partial(tqdm, desc=title, unit="scene")


def _made_by(options: argparse.Namespace) -> str:
    given = [word for path in options.data for word in ("--data", path)]
    given += ["--photos", options.photos] if options.photos else []
    given += ["--limit", options.limit] if options.limit else []
    given += ["--device", options.device] if options.device != "cpu" else []
    return command_line("models.quality", "--model", options.model, *given, "--out", options.out)


def _for_json(
    detector: OnnxDetector, model: Path, measured: Sequence[Measured], made_by: str
) -> dict[str, Any]:
    card = detector.card
    return {
        "command": made_by,
        "model": {
            "path": str(model),
            "name": card.name,
            "fingerprint": card.fingerprint,
            "score_threshold": card.detections.score_threshold,
            "matching": card.matching and asdict(card.matching),
        },
        "datasets": [
            {
                "title": own.title,
                "data": own.data,
                "left_out": list(own.left_out),
                **(asdict(own.breakdown) if own.breakdown else {}),
                "matching": own.matching and asdict(own.matching),
                "pictures": [(own.folder / drawn.name).as_posix() for drawn in own.drawn],
            }
            for own in measured
        ],
    }


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m models.quality",
        description="Measure a model by camera, height and light, and show what it answers.",
    )
    parser.add_argument("--model", type=Path, required=True, metavar="DIR", help="model directory")
    parser.add_argument(
        "--data", type=Path, nargs="+", action="extend", default=[], metavar="DIR",
        help="annotated scenes, as models.evaluate reads them; several are told one by one",
    )  # fmt: skip
    parser.add_argument(
        "--photos", type=Path, metavar="FOLDER",
        help="pictures without annotations: people found in them are searched in the others",
    )  # fmt: skip
    parser.add_argument(
        "--out", type=Path, required=True, metavar="DIR",
        help=f"for {PAGE}, {FIGURES} and the pictures",
    )  # fmt: skip
    parser.add_argument(
        "--limit", type=int, metavar="N", help="use the first N scenes, or photographs, only"
    )
    parser.add_argument("--device", choices=sorted(PROVIDERS), default="cpu")
    options = parser.parse_args(arguments)
    if options.limit is not None and options.limit < 1:
        parser.error(f"argument --limit: expected 1 or more, got {options.limit}")
    if not options.data and options.photos is None:
        parser.error("expected --data, --photos or both")
    return options
