"""The page that says how good a model is, and where it fails."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from models.evaluation.bootstrap import ROUNDS, Estimate
from models.evaluation.breakdown import (
    ANNOTATED,
    FOUND_COSINE,
    LEAST_PEOPLE,
    LEAST_QUERIES,
    LEAST_SCENES,
    LUMA,
    Breakdown,
)
from models.evaluation.thresholds import MatchRates
from models.model_card import ModelCard
from models.reporting.quality_pictures import Drawn
from models.reporting.words import NONE, command_line, points, table

TOO_FEW = "too few"


@dataclass(frozen=True)
class Measured:
    """What a model does on one dataset, or on a folder of photographs.

    Attributes:
        title: how it is called in headers.
        arguments: of models.evaluate, that read it; of photographs none.
        folder: where its pictures are, from the page on.
        data: name, licence, scenes, persons, queries.
        breakdown: None of photographs, which nobody has annotated.
        matching: what the card's match rule does here; None where the card has none or there are
            too few people to tell.
        left_out: photographs that could not be read, and why.
        drawn: its pictures.
    """

    title: str
    arguments: tuple[object, ...]
    folder: Path
    data: dict[str, Any]
    breakdown: Breakdown | None
    matching: MatchRates | None
    left_out: Sequence[str]
    drawn: Sequence[Drawn]


def page(card: ModelCard, model: Path, measured: Sequence[Measured], made_by: str) -> str:
    """All of it, in Markdown."""
    parts = [
        f"# How good {card.name} is",
        _code(made_by),
        f"Model `{model}`, fingerprint `{card.fingerprint[:12]}`: {card.head} on "
        f"{card.backbone}, boxes of a score above {card.detections.score_threshold:g}.",
        "In percent. In brackets the 95 % interval: where the figure would lie had other scenes "
        "like these been measured (detection), or other queries been asked in them (search); "
        f"{ROUNDS:,} rounds of drawing them anew. It says nothing of scenes unlike these. Groups "
        f"of fewer than {LEAST_PEOPLE} people or {LEAST_QUERIES} queries have no figures; of fewer "
        f"than {LEAST_SCENES} scenes, or where every round came out alike, they have no interval.",
    ]
    for own in measured:
        parts += _of_dataset(card, model, own, made_by)
    return "\n\n".join(parts) + "\n"


def _of_dataset(card: ModelCard, model: Path, own: Measured, made_by: str) -> list[str]:
    parts = [f"## {own.title}"]
    if own.breakdown is None:
        parts.append(f"{own.data['scenes']} photographs, without annotations.")
        parts += [f"Left out: {', '.join(own.left_out)}."] if own.left_out else []
        return [*parts, *_pictures(own)]
    parts.append(
        f"{own.data['scenes']} scenes, {own.data['persons']} people, {own.data['queries']} "
        f"queries; protocol {own.data['protocol']}. Licence of the pictures: {own.data['licence']}."
    )
    evaluate = command_line("models.evaluate", "--model", model, *own.arguments)
    parts += ["### Finding people", _code(made_by, f"{evaluate}    # the first row")]
    parts += _detection(own.breakdown)
    parts += ["### Finding people again", _code(made_by, f"{evaluate}    # the first row")]
    parts += _search(own.breakdown)
    if own.breakdown.ways:
        lines = [made_by, evaluate, f"{evaluate} --no-cws"]
        if any(way.name == ANNOTATED for way in own.breakdown.ways):
            lines.append(f"{evaluate} --gt-boxes --no-cws")
        parts += ["### Ways of searching", _code(*lines), *_ways(own.breakdown)]
    if card.matching is not None:
        parts += ["### Likely matches", _code(made_by), _matching(card, own)]
    return [*parts, *_pictures(own)]


def _detection(breakdown: Breakdown) -> list[str]:
    if not breakdown.detection:
        return ["Nobody is to be found in scenes where everybody is annotated."]
    rows = [
        [
            _group(part.kind, part.name),
            f"{part.scenes:,}",
            f"{part.people:,}",
            _cell(part.recall),
            _cell(part.precision) if part.kind in ("all", "camera") else NONE,
            _cell(part.ap) if part.kind in ("all", "camera") else NONE,
        ]
        for part in breakdown.detection
    ]
    return [
        table(["group", "scenes", "people", "recall", "precision", "AP"], rows),
        "A box is right at IoU 0.5. Height and light are of the person's own box: a wrong box is "
        "nobody's, so that these groups have a recall only. " + _light_told(),
    ]


def _search(breakdown: Breakdown) -> list[str]:
    if not breakdown.search:
        return ["The dataset asks no queries."]
    rows = [
        [
            _group(part.kind, part.name),
            f"{part.queries:,}",
            f"{part.people:,}",
            _cell(part.map),
            _cell(part.top_1),
        ]
        for part in breakdown.search
    ]
    return [
        table(["group", "queries", "people", "mAP", "top-1"], rows),
        "Camera, height and light are of the query's own box. " + _light_told(),
    ]


def _ways(breakdown: Breakdown) -> list[str]:
    rows = [[way.name, _cell(way.map), _cell(way.top_1)] for way in breakdown.ways]
    rows += [
        [f"{own.better} − {own.than}", _gain(own.map), _gain(own.top_1)]
        for own in breakdown.differences
    ]
    return [
        table(["searched", "mAP", "top-1"], rows),
        f"Differences are of the same queries. “{ANNOTATED}” needs nobody to be found first: over "
        f"“{FOUND_COSINE}” it says what detection costs the search.",
    ]


def _matching(card: ModelCard, own: Measured) -> str:
    rule = card.matching
    assert rule is not None  # asked for only then
    said = (
        f"The card calls two people a likely match where their cosine similarity is above "
        f"{rule.similarity:.4f}: at most {100 * rule.false_match_rate:g} % of the pairs of "
        f"different people, as measured on {rule.measured_on}."
    )
    if own.matching is None:
        return f"{said} There are too few people here to hold it against."
    rates = own.matching
    row = [
        _cell(rates.false, digits=2),
        f"{100 * rates.missed:.1f}",
        f"{rates.people:,}",
        f"{rates.pairs:,}",
        f"{rates.genuine_pairs:,}",
    ]
    header = [
        "false matches",
        "missed matches",
        "people",
        "pairs of different people",
        "pairs of one person",
    ]
    return f"{said} Here, on annotated boxes:\n\n{table(header, [row])}"


def _pictures(own: Measured) -> list[str]:
    if not own.drawn:
        return []
    shown = [
        f"{drawn.says}\n\n![{drawn.name}]({(own.folder / drawn.name).as_posix()})"
        for drawn in own.drawn
    ]
    return ["### Pictures", *shown]


def _group(kind: str, name: str) -> str:
    return f"**{kind}**" if kind == "all" else f"{kind}: {name}"


def _light_told() -> str:
    dark, bright = LUMA
    return (
        f"Light is the mean luma there, 0 to 255: dark below {dark:g}, bright from {bright:g} on."
    )


def _cell(own: Estimate | None, *, digits: int = 1) -> str:
    if own is None:
        return TOO_FEW
    value = f"{100 * own.value:.{digits}f}"
    if own.low is None or own.high is None or own.low == own.high:
        return value
    return f"{value} ({100 * own.low:.{digits}f} to {100 * own.high:.{digits}f})"


def _gain(own: Estimate) -> str:
    value = points(own.value)
    if own.low is None or own.high is None or own.low == own.high:
        return value
    return f"{value} ({points(own.low)} to {points(own.high)})"


def _code(*lines: str) -> str:
    return "\n".join(["```", *lines, "```"])
