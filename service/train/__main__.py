"""python -m service.train --data DIR --out DIR: train, evaluate, export."""

import os
import sys

from pydantic import ValidationError
from pydantic_settings import CliApp, SettingsError

from models.errors import PersonSearchError
from service.train.command import logged, silent, told
from service.train.config import TrainConfig
from service.train.loop import train


def main(arguments: list[str] | None = None) -> int:
    """Run one training; what goes wrong is one line on stderr."""
    try:
        config = CliApp.run(TrainConfig, cli_args=sys.argv[1:] if arguments is None else arguments)
    except (ValidationError, SettingsError) as error:
        print(told(error), file=sys.stderr)
        return 2
    rank = int(os.environ.get("RANK", "0"))
    config.out.mkdir(parents=True, exist_ok=True)
    try:
        with silent() if rank else logged(config.out):
            model = train(config)
    except PersonSearchError as error:
        who = f" (process {rank})" if rank else ""
        print(f"error{who}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped: with --resume it goes on from its last checkpoint", file=sys.stderr)
        return 130
    if model is not None:
        print(model)
    return 0


if __name__ == "__main__":
    sys.exit(main())
