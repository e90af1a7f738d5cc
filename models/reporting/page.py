"""The report's one page."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from models.model_card import PIXEL_HEADS
from models.reporting import tables
from models.reporting.cited import CITED, CUHK_SYSU, GALLERY_SIZE, NAE_PAPER, SOURCES
from models.reporting.outcome import Outcome, Run
from models.reporting.people import LEAST_HEIGHT
from models.reporting.trends import trends
from models.reporting.words import HEAD_NAMES, table


@dataclass(frozen=True)
class Pictures:
    """Figures that were drawn, by the dataset's title.

    Attributes:
        sizes: file name, relative to the page.
        attention: file name, and the model.
    """

    sizes: dict[str, str] = field(default_factory=dict)
    attention: dict[str, tuple[str, str]] = field(default_factory=dict)


def page(outcomes: Sequence[Outcome], runs: Sequence[Run], pictures: Pictures, made_by: str) -> str:
    """All of it, in Markdown."""
    parts = [
        "# Beside the published figures",
        f"What the models below do, beside what is published of {NAE_PAPER} (NAE and NAE+), and "
        "of other methods. Made by one command:",
        f"```\n{made_by}\n```",
        "Search mAP, top-1 accuracy, recall and AP are in percent. Several models of one head are "
        "seeds of one row: mean ± sample standard deviation. Published figures and ours share a "
        f"column only where both are of {CUHK_SYSU} (galleries of {GALLERY_SIZE} scenes) or both "
        "of PRW, whole test sets, scored by the rules of the published code; figures on any other "
        "dataset have columns of their own and **are not comparable** with the published ones.",
        _models(runs),
        _datasets(outcomes),
        "## What to read from this",
        *(_trends(outcome) for outcome in outcomes),
        "Spread over seeds of a difference between two heads: the root of the sum of both "
        "variances, how far two more seeds might come apart. Over the queries: the standard error "
        "of the mean of each query's difference in AP, had other queries been asked. A difference "
        "that is not larger than both, or between two heads of one seed each, settles nothing.",
        "## 1. Who finds people, and who tells them apart",
        "Boxes and detection scores of one model, embeddings of another, which describes the boxes "
        "as they were found; on the diagonal a model describes its own boxes anew, so that all "
        "rows are alike. A whole model describes the proposals that its boxes came from instead, "
        "and it is whole models that figures are published of. What the paper has for each "
        "combination, for its detectors, and for NAE without class-weighted similarity was not at "
        "hand: “–” stands for it, here and below. OIM's published figures are of the network of "
        "its own paper, which is weaker than the one that NAE is compared with.",
        *(tables.ablation(outcome) for outcome in outcomes),
        "How well each finds people:",
        *(tables.detectors(outcome) for outcome in outcomes),
        "## 2. What class-weighted similarity does",
        "On: ranked by detection score × cosine similarity. Off: by cosine similarity alone, "
        "which is how OIM's published figures were made.",
        *(tables.weighting(outcome) for outcome in outcomes),
        "## 3. Beside other methods",
        tables.comparison(outcomes),
        _sources(),
        "## 4. More scenes to search",
        *(_sizes(outcome, pictures.sizes.get(outcome.title)) for outcome in outcomes),
        "## 5. What NAE+ looks at",
        *(_attention(outcome, pictures) for outcome in outcomes),
        "## 6. Milliseconds a scene",
        "Median, one scene at a time, on the machine that made this page. “detect” is a whole "
        "detection: prepare, scene graph, proposals, head, and what follows them.",
        *(f"On {outcome.title}:\n\n{tables.stages(outcome)}" for outcome in outcomes),
    ]
    return "\n\n".join(parts) + "\n"


def _models(runs: Sequence[Run]) -> str:
    rows = [
        [
            HEAD_NAMES[run.card.head],
            f"`{run.path}`",
            run.card.name,
            run.card.backbone,
            f"`{run.card.fingerprint[:12]}`",
            ", ".join(_trained_on(run)) or "not told",
        ]
        for run in runs
    ]
    return table(["head", "model", "name", "backbone", "fingerprint", "trained on"], rows)


def _trained_on(run: Run) -> list[str]:
    told = run.card.training.get("scenes")
    return [str(part["name"]) for part in told] if isinstance(told, list) else []


def _datasets(outcomes: Sequence[Outcome]) -> str:
    rows = [
        [
            outcome.title,
            *(str(outcome.data[name]) for name in ("scenes", "persons", "queries")),
            outcome.data["protocol"],
            outcome.published_as or "nothing published",
            outcome.data["licence"],
        ]
        for outcome in outcomes
    ]
    return table(
        ["dataset", "scenes", "people", "queries", "scored by", "comparable with", "licence"], rows
    )


def _trends(outcome: Outcome) -> str:
    rows = [[own.claim, f"**{own.verdict}**", own.says] for own in trends(outcome)]
    header = ["published trend", f"here, on {outcome.title}", "difference"]
    return table(header, rows)


def _sources() -> str:
    used = {own.checked for row in CITED for own in row.figures.values() if own.checked}
    lines = [f"- {told}" for name, told in SOURCES.items() if name in used]
    notes = [
        f"- {row.method} on {name}: {own.note}."
        for row in CITED
        for name, own in row.figures.items()
        if own.note
    ]
    return "\n".join(
        [
            "Figures without a mark were compared with one of these:",
            "",
            *lines,
            "",
            "† Cited as the literature repeats it; not compared with a source.",
            "",
            *notes,
            "- The rows retrained by others are what one reader of the authors' code got from it. "
            "There NAE+ came out below NAE.",
        ]
    )


def _sizes(outcome: Outcome, picture: str | None) -> str:
    if picture is None:
        return f"{outcome.title} asks no queries: there is nothing to draw."
    parts = [f"![search mAP by gallery size on {outcome.title}]({picture})", outcome.sizes_told]
    if outcome.published_as is None:
        parts[-1] += " No figures are published for them."
    parts.append(tables.by_size(outcome))
    if outcome.sizes_commands:
        parts.append("\n".join(["```", *outcome.sizes_commands, "```"]))
    return "\n\n".join(parts)


def _attention(outcome: Outcome, pictures: Pictures) -> str:
    if not outcome.heads(PIXEL_HEADS):
        return f"{outcome.title}: no model with an NAE+ head was given; others score no pixels."
    if outcome.title not in pictures.attention:
        return f"{outcome.title}: nobody of {LEAST_HEIGHT:.0f} pixels or more was found."
    name, model = pictures.attention[outcome.title]
    return (
        f"![attention of NAE+ on {outcome.title}]({name})\n\n"
        f"By `{model}`: people as found, each beside the same crop under the detection scores of "
        "its pixels. Nobody was picked by hand: the best scored person of each of some scenes at "
        "even distances, and where there are fewer scenes than places the next best too."
    )
