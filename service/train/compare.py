"""python -m service.train.compare: each head on the same data, with the same budget and seeds."""

if __name__ == "__main__":
    from models.command import run

    run("service.train.compare")

import json
import logging
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, ValidationError, model_validator
from pydantic_settings import CliApp, SettingsConfigDict, SettingsError
from tqdm import tqdm

from models.command import FAILED, command, goes_on
from models.datasets.read import read_dataset
from models.datasets.scene import SceneDataset
from models.detector import OnnxDetector
from models.evaluate import find, score
from models.model_card import load_card
from models.reporting.outcome import Cell, Outcome, Run, by_head
from models.reporting.trends import trends_of_whole_models
from models.reporting.words import HEAD_NAMES, percent, signed_percent
from service.train.command import logged, told
from service.train.config import TrainConfig
from service.train.loop import train

log = logging.getLogger("service.train")

HeadName = Literal["oim", "nae", "nae_plus", "nae_plus_res5"]
HEADS: tuple[HeadName, ...] = ("oim", "nae", "nae_plus")


class CompareConfig(TrainConfig):
    """Train each head with each seed, evaluate all on --val, and say which published trends appear.

    Every flag of service.train holds for all of them. A run that is finished is not trained again,
    an interrupted one goes on where it stopped.
    """

    model_config = SettingsConfigDict(cli_prog_name="python -m service.train.compare")

    val: Path = Field(description="annotated scenes of other people, to evaluate on")
    heads: list[HeadName] = Field(list(HEADS), description="what is compared", min_length=1)
    seeds: list[int] = Field([1, 2, 3], description="of the runs of each head", min_length=1)
    resume: bool = Field(True, description="go on with runs that are in --out")

    @model_validator(mode="after")
    def _refuse_twice(self) -> Self:
        for name, values in (("heads", self.heads), ("seeds", self.seeds)):
            if len(set(values)) < len(values):
                raise ValueError(f"--{name}: expected each once, got {values}")
        return self

    def run(self, head: str, seed: int) -> TrainConfig:
        """The configuration of one training."""
        out = self.out / f"{head}-{seed}"
        values = self.model_dump(exclude={"heads", "seeds", "preset"})
        begun = (out / "checkpoint.pt").is_file()
        return TrainConfig(
            **values | {"head": head, "seed": seed, "out": out, "resume": self.resume and begun}
        )


def compare(config: CompareConfig) -> Outcome:
    """Train what is not trained yet, and measure all.

    Raises:
        PersonSearchError: the data, a checkpoint or a loss is not usable.
    """
    dataset = read_dataset(config.val, gallery_size=config.gallery_size)
    runs = []
    for seed in config.seeds:
        for head in config.heads:
            log.info("%s, seed %d", HEAD_NAMES[head], seed)
            model = train(config.run(head, seed))
            assert model is not None, "only the first of several processes has a model"
            runs.append(Run(model, load_card(model)))
    return measure(runs, dataset)


def measure(runs: Sequence[Run], dataset: SceneDataset) -> Outcome:
    """Score each run's model with and without class weighting."""
    cells: dict[bool, dict[str, Cell]] = {True: {}, False: {}}
    for head, own in by_head(runs).items():
        found = [
            find(
                OnnxDetector(run.path),
                dataset,
                progress=partial(tqdm, desc=str(run.path), unit="scene", disable=None),
            )
            for run in own
        ]
        for weighted, of_heads in cells.items():
            results = [
                score(one, dataset, class_weighted=weighted, per_query=True) for one in found
            ]
            of_heads[head] = Cell(tuple(results))
    data = next(iter(cells[True].values())).results[0]["data"]
    return Outcome(dataset.name, None, data, whole=cells[True], unweighted=cells[False], crossed={})


def table(outcome: Outcome) -> str:
    """Each head's figures over its seeds, in percent, and which trends appear."""
    columns = ("head", "detection AP", "search mAP", "top-1", "mAP without CWS", "CWS gains")
    rows = [columns]
    for head in outcome.heads():
        whole, plain = outcome.whole[head], outcome.unweighted[head]
        weighted, unweighted = (cell.values("search", "map") for cell in (whole, plain))
        gains = [a - b for a, b in zip(weighted, unweighted, strict=True)]
        rows.append(
            (
                HEAD_NAMES[head],
                percent(whole.values("detection", "ap")),
                percent(weighted),
                percent(whole.values("search", "top_1")),
                percent(unweighted),
                signed_percent(gains),
            )
        )
    widths = [max(len(row[i]) for row in rows) for i in range(len(columns))]
    lines = [
        "  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
    data = outcome.data
    lines.insert(
        0, f"{data['name']}: {data['scenes']} scenes, {data['queries']} queries; in percent"
    )
    lines += [
        "",
        *(f"{own.verdict:<12}  {own.claim}: {own.says}" for own in trends_of_whole_models(outcome)),
    ]
    return "\n".join(lines)


@command
def main(arguments: list[str] | None = None) -> int:
    """Compare; what goes wrong is one line on stderr."""
    given = sys.argv[1:] if arguments is None else arguments
    for flag in ("--head", "--seed"):
        if any(word.partition("=")[0] == flag for word in given):
            print(f"error: {flag} is of one run: pass {flag}s", file=sys.stderr)
            return FAILED
    try:
        config = CliApp.run(CompareConfig, cli_args=given)
    except (ValidationError, SettingsError) as error:
        print(told(error), file=sys.stderr)
        return FAILED
    config.out.mkdir(parents=True, exist_ok=True)
    with goes_on() if config.resume else nullcontext(), logged(config.out):
        outcome = compare(config)
    text = table(outcome)
    print(text)
    (config.out / "comparison.txt").write_text(text + "\n", encoding="utf-8")
    results = {
        head: {"cws": outcome.whole[head].results, "no_cws": outcome.unweighted[head].results}
        for head in outcome.heads()
    }
    content = json.dumps({"data": outcome.data, "heads": results}, indent=2)
    (config.out / "comparison.json").write_text(content + "\n", encoding="utf-8")
    return 0
