"""python -m service.train --data DIR --out DIR: train, evaluate, export."""

import logging
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
        for problem in error.errors():
            flag = "--" + "-".join(map(str, problem["loc"])).replace("_", "-")
            print(f"error: {flag}: {problem['msg']}", file=sys.stderr)
        return 2
    config.out.mkdir(parents=True, exist_ok=True)
    log = logging.getLogger("service.train")
    log.setLevel(logging.INFO)
    file = logging.FileHandler(config.out / "log.txt")
    handlers: list[logging.Handler] = [logging.StreamHandler(), file]
    for handler in handlers:
        handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S"))
        log.addHandler(handler)
    try:
        with logging_redirect_tqdm([log]):
            model = train(config)
    except PersonSearchError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    finally:
        for handler in handlers:
            log.removeHandler(handler)
        file.close()
    print(model)
    return 0


if __name__ == "__main__":
    sys.exit(main())
