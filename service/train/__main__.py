"""python -m service.train --data DIR --out DIR: train, evaluate, export."""

import logging
import os
import sys

from pydantic import ValidationError
from pydantic_settings import CliApp
from tqdm.contrib.logging import logging_redirect_tqdm

from models.errors import PersonSearchError
from service.train.config import TrainConfig
from service.train.loop import train


def main(arguments: list[str] | None = None) -> int:
    """Run one training; what goes wrong is one line on stderr."""
    try:
        config = CliApp.run(TrainConfig, cli_args=sys.argv[1:] if arguments is None else arguments)
    except ValidationError as error:
        print(told(error), file=sys.stderr)
        return 2
    rank = int(os.environ.get("RANK", "0"))
    config.out.mkdir(parents=True, exist_ok=True)
    log = logging.getLogger("service.train")
    log.setLevel(logging.INFO)
    handlers: list[logging.Handler] = [logging.NullHandler()]
    if rank == 0:
        handlers = [logging.StreamHandler(), logging.FileHandler(config.out / "log.txt")]
    for handler in handlers:
        handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S"))
        log.addHandler(handler)
    try:
        with logging_redirect_tqdm([log] if rank == 0 else []):
            model = train(config)
    except PersonSearchError as error:
        who = f" (process {rank})" if rank else ""
        print(f"error{who}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped: with --resume it goes on from its last checkpoint", file=sys.stderr)
        return 130
    finally:
        for handler in handlers:
            log.removeHandler(handler)
            handler.close()
    if model is not None:
        print(model)
    return 0


def told(error: ValidationError) -> str:
    """What is wrong with flags, a line each."""
    lines = []
    for problem in error.errors():
        flag = "--" + "-".join(map(str, problem["loc"])).replace("_", "-")
        where = f"{flag}: " if problem["loc"] else ""
        lines.append(f"error: {where}{problem['msg'].removeprefix('Value error, ')}")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
