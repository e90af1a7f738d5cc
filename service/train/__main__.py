"""python -m service.train --data DIR --out DIR: train, evaluate, export."""

if __name__ == "__main__":
    from models.command import run

    run("service.train.__main__")

import os
import sys

from pydantic import ValidationError
from pydantic_settings import CliApp, SettingsError

from models.command import FAILED, INTERRUPTED, command
from models.errors import PersonSearchError
from service.train.command import logged, silent, told
from service.train.config import TrainConfig
from service.train.interrupts import how_to_go_on
from service.train.loop import train


@command
def main(arguments: list[str] | None = None) -> int:
    """Run one training; what goes wrong is one line on stderr."""
    try:
        config = CliApp.run(TrainConfig, cli_args=sys.argv[1:] if arguments is None else arguments)
    except (ValidationError, SettingsError) as error:
        print(told(error), file=sys.stderr)
        return FAILED
    config.out.mkdir(parents=True, exist_ok=True)
    rank = int(os.environ.get("RANK", "0"))
    if rank:
        return _beside_the_first(config, rank)
    with logged(config.out), how_to_go_on(config.out / "checkpoint.pt", resumed=config.resume):
        model = train(config)
    if model is not None:
        print(model)
    return 0


def _beside_the_first(config: TrainConfig, rank: int) -> int:
    """Train as one of several processes that is not the first, which tells what all of them do."""
    try:
        with silent():
            train(config)
    except PersonSearchError as error:
        print(f"error (process {rank}): {error}", file=sys.stderr)
        return FAILED
    except KeyboardInterrupt:
        return INTERRUPTED
    return 0
