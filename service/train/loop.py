"""Training from the first batch to the model file; `train` reads top to bottom."""

import dataclasses
import json
import logging
import math
import time
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

from models.datasets.scenes_json import read_scenes_json
from models.detector import OnnxDetector
from models.errors import DatasetError, PersonSearchError
from models.evaluate import evaluate
from models.model_card import save_card
from models.nn.export import check_parity, export
from models.nn.network import PersonSearchNet, build_network
from service.train.checkpoint import load_checkpoint, save_checkpoint
from service.train.config import TrainConfig
from service.train.data import EpochScenes, TrainingData, batches, describe

log = logging.getLogger("service.train")

LOG_EVERY = 20
PARITY_SCENES = 4
# What may change between a run and its resumption, because it cannot change what is learned.
FREE_TO_CHANGE = {
    "resume", "device", "threads", "workers", "checkpoint_every", "val", "val_scenes", "licence",
    "name", "score_threshold", "serve_min_size", "serve_max_size",
}  # fmt: skip


class LossExplodedError(PersonSearchError):
    """The loss is no longer a number."""

    code = "loss_exploded"


def train(config: TrainConfig) -> Path:
    """Run a training to its end.

    Returns:
        The model file: a directory with a card and two ONNX graphs.

    Raises:
        PersonSearchError: the data, a checkpoint or the loss is not usable.
    """
    device = _device(config)
    torch.manual_seed(config.seed)
    if config.threads:
        torch.set_num_threads(config.threads)
    build = _build_arguments(config)
    card = build_network(**{**build, "pretrained": False}).card
    data = TrainingData(
        config.data,
        config.crops,
        composed=config.composed,
        rule=card.input,
        most_crops=config.crops_per_scene,
    )
    build["num_ids"] = data.num_ids
    network = build_network(**build).to(device, memory_format=_layout(config))
    if config.weights:
        network.load_state_dict(load_checkpoint(config.weights)["network"])
    optimizer = _optimizer(network, config)
    scenes_per_epoch = config.scenes_per_epoch or len(data.scenes)
    steps_per_epoch = scenes_per_epoch // config.batch_size
    if steps_per_epoch == 0:
        raise DatasetError(f"{scenes_per_epoch} scenes make no batch of {config.batch_size}")
    checkpoint = config.out / "checkpoint.pt"
    done = 0
    if config.resume:
        done = _resume(checkpoint, config, network, optimizer)
    total = config.epochs * steps_per_epoch
    log.info(
        "%d scenes, %d people, %d steps of %d scenes on %s",
        len(data.scenes), data.num_ids, total, config.batch_size, device,
    )  # fmt: skip

    network.train()
    started, recent = time.monotonic(), _Recent()
    with (
        SummaryWriter(str(config.out / "tensorboard"), purge_step=done) as scalars,
        tqdm(total=total, initial=done, unit="step", disable=None) as progress,
    ):
        while done < total:
            epoch, step = divmod(done, steps_per_epoch)
            scenes = EpochScenes(
                data,
                seed=config.seed,
                epoch=epoch,
                count=scenes_per_epoch,
                start=step * config.batch_size,
            )
            for batch in batches(scenes, batch_size=config.batch_size, workers=config.workers):
                rate = _rate(config, done, steps_per_epoch)
                for group in optimizer.param_groups:
                    group["lr"] = rate
                losses, norm = _step(network, optimizer, batch, config, device)
                done += 1
                progress.update()
                recent.add(losses)
                if done % LOG_EVERY == 0 or done == total:
                    means = recent.take()
                    _report(scalars, done, total, epoch, rate, norm, means, started)
                if done % config.checkpoint_every == 0 or done == total:
                    content = {
                        "network": network.state_dict(),
                        "optimizer": optimizer.state_dict(),
                        "rng": torch.get_rng_state(),
                        "cuda_rng": torch.cuda.get_rng_state_all(),
                        "steps": done,
                        "build": {**build, "pretrained": False},
                        "config": config.model_dump(mode="json"),
                    }
                    save_checkpoint(checkpoint, content)
    return finish(network.cpu(), config, data, steps=total)


def finish(
    network: PersonSearchNet, config: TrainConfig, data: TrainingData, *, steps: int
) -> Path:
    """Export, check against torch, evaluate, and write the final card."""
    network.to(memory_format=torch.contiguous_format).eval()
    network.roi_heads.rule = dataclasses.replace(
        network.card.detections, score_threshold=config.score_threshold
    )
    trained = network.card.input
    min_size = config.serve_min_size or trained.min_size
    served = dataclasses.replace(
        trained,
        min_size=min_size,
        max_size=config.serve_max_size or trained.max_size,
        person_height=trained.person_height * min_size // trained.min_size,
    )
    training: dict[str, Any] = {
        "licence": config.licence,
        "scenes": describe(data.sources),
        "people": data.num_ids,
        "crops": config.crops.name if config.crops else None,
        "steps": steps,
        "recipe": config.model_dump(
            mode="json", exclude={"data", "out", "val", "crops", "weights", "licence", "resume"}
        ),
    }
    network.card = dataclasses.replace(
        network.card, input=served, detections=network.roi_heads.rule, training=training
    )
    model = export(network, config.out / "model")
    validation = read_scenes_json(config.val) if config.val else data.sources[0]
    some = [scene.read() for scene in validation.scenes[:PARITY_SCENES]]
    log.info("parity of torch and ONNX: %s", json.dumps(check_parity(network, model, some)))
    if config.val_scenes:
        validation = validation.first(config.val_scenes)
    measured = evaluate(
        OnnxDetector(model), validation, progress=partial(tqdm, desc="evaluating", disable=None)
    )
    where = validation.name if config.val else f"{validation.name} (its training scenes)"
    metrics = {where: {k: measured[k] for k in ("detection", "search")}}
    log.info("evaluation: %s", json.dumps(metrics))
    save_card(dataclasses.replace(network.card, metrics=metrics), model)
    log.info("model file: %s", model)
    return model


def _build_arguments(config: TrainConfig) -> dict[str, Any]:
    return {
        name: getattr(config, name)
        for name in (
            "head", "backbone", "name", "queue_size", "embedding_dim", "min_size", "max_size",
            "regions_per_image", "background_iou", "pretrained",
        )
    }  # fmt: skip


def _layout(config: TrainConfig) -> torch.memory_format:
    return torch.channels_last if config.channels_last else torch.contiguous_format


def _device(config: TrainConfig) -> torch.device:
    if config.device == "cuda" and not torch.cuda.is_available():
        raise PersonSearchError("device cuda was asked for, but torch sees no GPU")
    if config.device != "auto":
        return torch.device(config.device)
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def _optimizer(network: nn.Module, config: TrainConfig) -> torch.optim.SGD:
    """SGD; biases do not decay."""
    trained = [(n, p) for n, p in network.named_parameters() if p.requires_grad]
    return torch.optim.SGD(
        [
            {
                "params": [p for n, p in trained if "bias" not in n],
                "weight_decay": config.weight_decay,
            },
            {"params": [p for n, p in trained if "bias" in n], "weight_decay": 0.0},
        ],
        lr=config.lr,
        momentum=config.momentum,
    )


def _rate(config: TrainConfig, step: int, steps_per_epoch: int) -> float:
    """The learning rate of a step, warmed up linearly from a thousandth."""
    rate = config.lr
    if config.lr_schedule == "cosine":
        rate *= 0.5 * (1 + math.cos(math.pi * step / (config.epochs * steps_per_epoch)))
    else:
        rate *= 0.1 ** (step // steps_per_epoch // config.lr_step)
    warmup = steps_per_epoch - 1 if config.warmup_steps is None else config.warmup_steps
    if step < warmup:
        rate *= 0.001 + 0.999 * step / warmup
    return rate


def _step(
    network: PersonSearchNet,
    optimizer: torch.optim.Optimizer,
    batch: tuple[Tensor, list[tuple[int, int]], list[dict[str, Tensor]]],
    config: TrainConfig,
    device: torch.device,
) -> tuple[dict[str, float], float]:
    """One step: the losses, and the gradient's norm before clipping."""
    images, sizes, targets = batch
    images = images.to(device, memory_format=_layout(config))
    targets = [{k: v.to(device) for k, v in target.items()} for target in targets]
    losses = network(images, sizes, targets)
    weighted = {
        **losses,
        "loss_box_reg": config.box_loss_weight * losses["loss_box_reg"],
        "loss_detection": config.detection_loss_weight * losses["loss_detection"],
        "loss_reid": config.reid_loss_weight * losses["loss_reid"],
    }
    loss = torch.stack(list(weighted.values())).sum()
    if not torch.isfinite(loss):
        raise LossExplodedError(
            f"the loss is {loss.item()}: "
            + ", ".join(f"{k} {v.item():.3g}" for k, v in losses.items())
            + "; try a lower --lr"
        )
    optimizer.zero_grad()
    loss.backward()
    norm = nn.utils.clip_grad_norm_(network.parameters(), config.clip_norm)
    optimizer.step()
    network.roi_heads.reid_loss.update()
    values = {name: value.item() for name, value in losses.items()}
    return {"loss": loss.item(), **values}, float(norm)


def _resume(
    checkpoint: Path, config: TrainConfig, network: nn.Module, optimizer: torch.optim.Optimizer
) -> int:
    """Load everything that the next step depends on; the number of steps already done."""
    content = load_checkpoint(checkpoint)
    now, then = config.model_dump(mode="json"), content["config"]
    changed = [k for k in now if k not in FREE_TO_CHANGE and now[k] != then.get(k)]
    if changed:
        told = ", ".join(f"{k} was {then.get(k)!r} and is {now[k]!r}" for k in changed)
        raise PersonSearchError(f"{checkpoint}: cannot go on exactly: {told}")
    network.load_state_dict(content["network"])
    optimizer.load_state_dict(content["optimizer"])
    torch.set_rng_state(content["rng"])
    torch.cuda.set_rng_state_all(content["cuda_rng"][: torch.cuda.device_count()])
    return int(content["steps"])


class _Recent:
    """Means of the losses since the last report."""

    def __init__(self) -> None:
        self._sums: dict[str, float] = {}
        self._count = 0

    def add(self, losses: dict[str, float]) -> None:
        self._count += 1
        for name, value in losses.items():
            self._sums[name] = self._sums.get(name, 0.0) + value

    def take(self) -> dict[str, float]:
        means = {name: value / self._count for name, value in self._sums.items()}
        self._sums, self._count = {}, 0
        return means


def _report(
    scalars: SummaryWriter,
    done: int,
    total: int,
    epoch: int,
    rate: float,
    norm: float,
    means: dict[str, float],
    started: float,
) -> None:
    for name, value in means.items():
        scalars.add_scalar(f"train/{name}", value, done)
    scalars.add_scalar("train/lr", rate, done)
    scalars.add_scalar("train/grad_norm", norm, done)
    log.info(
        "epoch %d step %d/%d lr %.5f %s grad %.1f %.0f s",
        epoch + 1, done, total, rate,
        " ".join(f"{k.removeprefix('loss_')} {v:.3f}" for k, v in means.items()),
        norm, time.monotonic() - started,
    )  # fmt: skip
