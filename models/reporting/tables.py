"""The report's tables, in Markdown."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from models.bench import DETECTION_STAGES
from models.reporting.cited import CITED, CUHK_SYSU, GALLERY_SIZE, PRW, RANKED_BY_COSINE, published
from models.reporting.outcome import Cell, Outcome
from models.reporting.words import (
    GROUND_TRUTH,
    HEAD_NAMES,
    HEADS,
    NONE,
    commands_cell,
    count_of_seeds,
    percent,
    role_name,
    signed_percent,
    table,
)

PUBLISHED_COLUMNS = {
    CUHK_SYSU: f"{CUHK_SYSU} (gallery {GALLERY_SIZE}), mAP / top-1",
    PRW: f"{PRW}, mAP / top-1",
}


def ablation(outcome: Outcome) -> str:
    """Who finds people × who tells them apart, and each whole model."""
    heads = _heads(outcome)
    rows = [
        [role_name(detector), HEAD_NAMES[head], NONE, NONE, *_ours(outcome.crossed, detector, head)]
        for detector in (*heads, GROUND_TRUTH)
        for head in heads
    ]
    rows += [
        [f"{HEAD_NAMES[head]}, whole", "itself", *_published(head), *_ours(outcome.whole, head)]
        for head in heads
    ]
    return table(["boxes and scores from", "embeddings from", *_search_columns(outcome)], rows)


def detectors(outcome: Outcome) -> str:
    """How well each head finds people."""
    rows = []
    for head in _heads(outcome):
        cell = outcome.whole.get(head, Cell())
        figures = [percent(cell.values("detection", name)) for name in ("recall", "ap")]
        rows.append(
            [HEAD_NAMES[head], NONE, *figures, str(len(cell.results)), commands_cell(cell.commands)]
        )
    here = f"ours: {outcome.title}"
    return table(
        [
            "detector",
            "published: recall / AP",
            f"{here}, recall %",
            f"{here}, AP %",
            "seeds",
            "command",
        ],
        rows,
    )


def weighting(outcome: Outcome) -> str:
    """Each head with and without class-weighted similarity."""
    rows = []
    for head in _heads(outcome):
        weighted, plain = (of.get(head, Cell()) for of in (outcome.whole, outcome.unweighted))
        known, unknown = _published(head), [NONE, NONE]
        on, off = (unknown, known) if head in RANKED_BY_COSINE else (known, unknown)
        rows.append([HEAD_NAMES[head], "on", *on, *_ours(outcome.whole, head)])
        rows.append([HEAD_NAMES[head], "off", *off, *_ours(outcome.unweighted, head)])
        gains = []
        for name in ("map", "top_1"):
            with_cws, without = (cell.values("search", name) for cell in (weighted, plain))
            gains.append(signed_percent(np.subtract(with_cws, without).tolist()))
        seeds = str(len(plain.results))
        rows.append([HEAD_NAMES[head], "difference", *unknown, *gains, seeds, NONE])
    return table(["head", "CWS", *_search_columns(outcome)], rows)


def comparison(outcomes: Sequence[Outcome]) -> str:
    """Cited methods and ours; a column for every dataset, so that no two share one unmarked."""
    columns = dict(PUBLISHED_COLUMNS)
    for outcome in outcomes:
        if outcome.published_as is None:
            columns[outcome.title] = f"{outcome.title}, mAP / top-1"
    rows = []
    for cited in CITED:
        cells = {
            name: f"{figures.map:.1f} / {figures.top_1:.1f}{'' if figures.checked else ' †'}"
            for name, figures in cited.figures.items()
        }
        figures_of = [cells.get(name, NONE) for name in columns]
        rows.append([cited.method, cited.kind, *figures_of, f"cited: {cited.by}"])
    for head in HEAD_NAMES:
        measured = [outcome for outcome in outcomes if head in outcome.whole]
        if not measured and head not in HEADS:
            continue
        cells = {
            outcome.published_as or outcome.title: " / ".join(
                percent(outcome.whole[head].values("search", name)) for name in ("map", "top_1")
            )
            for outcome in measured
        }
        seeds = max((len(outcome.whole[head].results) for outcome in measured), default=0)
        kind = f"ours, {count_of_seeds(seeds)}" if seeds else "ours: no model was given"
        commands = [line for outcome in measured for line in outcome.whole[head].commands]
        rows.append(
            [
                f"**{HEAD_NAMES[head]}**",
                f"**{kind}**",
                *(cells.get(name, NONE) for name in columns),
                commands_cell(commands),
            ]
        )
    return table(["method", "kind", *columns.values(), "who says so, or what prints it"], rows)


def by_size(outcome: Outcome) -> str:
    """The numbers of the figure over gallery sizes."""
    sizes = sorted({size for own in outcome.by_size.values() for size in own})
    rows = [
        [HEAD_NAMES[head], *(percent(own.get(size, [])) for size in sizes)]
        for head, own in outcome.by_size.items()
    ]
    header = [
        f"search mAP %, {outcome.published_as or outcome.title}",
        *(f"{size:,} scenes" for size in sizes),
    ]
    return table(header, rows)


def stages(outcome: Outcome) -> str:
    """Milliseconds a scene, by model and stage."""
    rows = [
        [
            f"`{own.model}`",
            *(f"{own.milliseconds[stage]:.1f}" for stage in DETECTION_STAGES),
            commands_cell([own.command]),
        ]
        for own in outcome.stages
    ]
    return table(["model", *DETECTION_STAGES, "command"], rows)


def _heads(outcome: Outcome) -> list[str]:
    """The published tables' heads, whether measured or not, and any other that was."""
    return [head for head in HEAD_NAMES if head in HEADS or head in outcome.whole]


def _published(head: str) -> list[str]:
    figures = (published(head, name) for name in PUBLISHED_COLUMNS)
    return [f"{own.map:.1f} / {own.top_1:.1f}" if own else NONE for own in figures]


def _search_columns(outcome: Outcome) -> list[str]:
    here = f"ours: {outcome.title}"
    theirs = (f"published: {column}" for column in PUBLISHED_COLUMNS.values())
    return [*theirs, f"{here}, mAP %", f"{here}, top-1 %", "seeds", "command"]


def _ours(cells: Mapping[Any, Cell], *key: str) -> list[str]:
    cell = cells.get(key if len(key) > 1 else key[0], Cell())
    figures = [percent(cell.values("search", name)) for name in ("map", "top_1")]
    return [*figures, str(len(cell.results)), commands_cell(cell.commands)]
