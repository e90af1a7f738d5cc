"""What the tests of training share: a tiny recipe, scenes to change, and the command line."""

import json

import torch

from service.train import loop
from service.train.__main__ import main
from service.train.config import TrainConfig

RECIPE = {
    "backbone": "efficientnet_lite0", "epochs": 2, "batch_size": 2, "min_size": 128,
    "max_size": 192, "regions_per_image": 8, "queue_size": 8, "embedding_dim": 16, "workers": 0,
    "device": "cpu", "checkpoint_every": 3, "warmup_steps": 2, "val_scenes": 2, "threads": 1,
}  # fmt: skip


def config(scenes, out, **changes):
    return TrainConfig(**{"data": [scenes], "out": out, **RECIPE, **changes})


def flags(scenes, out, **changes):
    """The same as a command line; True is a flag alone, a list repeats its flag."""
    given = {"data": scenes, "out": out, **RECIPE, **changes}
    words = []
    for name, value in given.items():
        for one in value if isinstance(value, list) else [value]:
            words.append(f"--{name.replace('_', '-')}")
            words += [] if one is True else [str(one)]
    return words


def run(capsys, *arguments):
    """Exit code, and the lines that the command wrote to stderr without its log."""
    code = main([str(argument) for argument in arguments])
    lines = capsys.readouterr().err.splitlines()
    return code, [line for line in lines if line and not line[:2].isdigit()]


def learn(monkeypatch, configuration):
    """Train without the model file at the end; the checkpoint of the last step."""
    monkeypatch.setattr(loop, "finish", lambda *args, **more: None)
    configuration.out.mkdir(exist_ok=True)
    loop.train(configuration)
    return torch.load(configuration.out / "checkpoint.pt")


def edited(scenes, change):
    """Change the annotations of a copy of some scenes."""
    path = scenes / "annotations.json"
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
    return scenes


def told_losses(out, tag="train/loss"):
    """What a run told TensorBoard, by step."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(out / "tensorboard"))
    events.Reload()
    return {event.step: event.value for event in events.Scalars(tag)}
