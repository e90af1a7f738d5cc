"""What was measured, before it is put into tables: runs, cells of seeds, one outcome a dataset."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from models.errors import ModelFileError
from models.model_card import ModelCard
from models.reporting.words import HEAD_NAMES

NOT_LEARNED = {
    "seed", "name", "device", "threads", "workers", "log_every", "checkpoint_every",
    "evaluate_every", "val_scenes", "gallery_size",
}  # fmt: skip
"""Flags of a training in which its seeds may differ."""

SHOWN = 3


@dataclass(frozen=True)
class Run:
    """A model file, by the path that it was given with."""

    path: Path
    card: ModelCard


@dataclass(frozen=True)
class Cell:
    """One cell of a table, measured once a seed.

    Attributes:
        results: as models.evaluate writes them, one a seed.
        commands: what prints each.
    """

    results: tuple[dict[str, Any], ...] = ()
    commands: tuple[str, ...] = ()

    def values(self, part: str, name: str) -> list[float]:
        """One figure in [0, 1] of each seed; of part "detection" or "search"."""
        return [result[part][name] for result in self.results if result[part]]


@dataclass(frozen=True)
class Stages:
    """How long a model takes for a scene: milliseconds by stage, and what prints them."""

    model: str
    milliseconds: dict[str, float]
    command: str


@dataclass(frozen=True)
class Outcome:
    """All that was measured on one dataset.

    Attributes:
        title: how the dataset is called in headers.
        published_as: "CUHK-SYSU" or "PRW", where ours may stand in one column with published
            figures; else None.
        data: what was evaluated, as models.evaluate says it.
        whole: by head, models that find people and tell them apart.
        unweighted: the same, ranked by cosine similarity alone.
        crossed: by detector (a head or GROUND_TRUTH) and re-identifier (a head): what one found,
            described by the other.
        by_size: by head and gallery size, the search mAP in [0, 1] of each seed.
        sizes_told: how the galleries of each size were made.
        sizes_commands: what prints by_size, if models.evaluate can.
    """

    title: str
    published_as: str | None
    data: dict[str, Any]
    whole: dict[str, Cell]
    unweighted: dict[str, Cell]
    crossed: dict[tuple[str, str], Cell]
    by_size: dict[str, dict[int, list[float]]] = field(default_factory=dict)
    sizes_told: str = ""
    sizes_commands: tuple[str, ...] = ()
    stages: tuple[Stages, ...] = ()

    def heads(self, among: Sequence[str] = tuple(HEAD_NAMES)) -> list[str]:
        """The heads that were measured."""
        return [head for head in among if head in self.whole]


def by_head(runs: Sequence[Run]) -> dict[str, list[Run]]:
    """The runs of each head, which are its seeds, in the order of HEAD_NAMES.

    Raises:
        ModelFileError: a head is unknown, a model is given twice, or one head's models are not
            seeds of one training: a mean over them would say nothing.
    """
    groups: dict[str, list[Run]] = {head: [] for head in HEAD_NAMES}
    seen: dict[str, Path] = {}
    for run in runs:
        if run.card.head not in groups:
            raise ModelFileError(
                f"{run.path}: expected a head of {', '.join(HEAD_NAMES)}, got {run.card.head!r}"
            )
        if run.card.fingerprint in seen:
            raise ModelFileError(
                f"{run.path} is the same model as {seen[run.card.fingerprint]}: "
                "expected each seed once"
            )
        seen[run.card.fingerprint] = run.path
        groups[run.card.head].append(run)
    for head, (first, *others) in ((head, own) for head, own in groups.items() if own):
        for other in others:
            apart = _differ(first.card, other.card)
            if apart:
                raise ModelFileError(
                    f"{first.path} and {other.path} both have the head {head}, and are no seeds of "
                    f"one training ({', '.join(apart)}): expected one of them in a report"
                )
    return {head: own for head, own in groups.items() if own}


def _differ(one: ModelCard, other: ModelCard) -> list[str]:
    """What keeps two models from being seeds of one training; nothing where they are."""
    if not (one.training and other.training):
        return ["a card does not tell how its model was trained"]
    mine, theirs = ({**_flat(card.training), "backbone": card.backbone} for card in (one, other))
    return [
        f"{name} {mine.get(name)} and {theirs.get(name)}"
        for name in mine | theirs
        if name not in NOT_LEARNED and mine.get(name) != theirs.get(name)
    ][:SHOWN]


def _flat(training: dict[str, Any]) -> dict[str, Any]:
    """What a card tells of the training, with the names of datasets alone."""
    recipe = training.get("recipe", {})
    told = {name: value for name, value in training.items() if name not in ("recipe", "licence")}
    if isinstance(told.get("scenes"), list):
        told["scenes"] = [part.get("name") for part in told["scenes"] if isinstance(part, dict)]
    return told | (recipe if isinstance(recipe, dict) else {})
