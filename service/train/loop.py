"""Training from the first batch to the model file; `train` reads top to bottom."""

import logging
import math
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from models.errors import DatasetError, PersonSearchError
from models.nn.export import network_of
from models.nn.network import build_network
from models.preprocess import InputRule
from service.train.answers import TeachersAnswers
from service.train.checkpoint import load_checkpoint, save_checkpoint
from service.train.config import TrainConfig
from service.train.crops import CropData, stacked
from service.train.data import RunOrder, RunScenes, TrainingData, batches, collate
from service.train.evaluation import evaluate_network
from service.train.finish import finish, read_validation, set_serving_rules
from service.train.interrupts import Interrupts
from service.train.live_teacher import LiveTeacher
from service.train.presets import PRESETS
from service.train.processes import agreed, joined, run_id
from service.train.records import Records, opened
from service.train.steps import Steps
from service.train.views import Views
from service.train.weights import load_weights

log = logging.getLogger("service.train")

# What may change between a run and its resumption, because it cannot change what is learned.
FREE_TO_CHANGE = {
    "out", "resume", "preset", "device", "threads", "workers", "log_every", "checkpoint_every",
    "val", "val_scenes", "gallery_size", "evaluate_every", "licence", "name", "score_threshold",
    "serve_min_size", "serve_max_size", "score_shift",
}  # fmt: skip


def train(config: TrainConfig) -> Path | None:
    """Run a training to its end, as one process or as one of several.

    Returns:
        The model file: a directory with a card and two ONNX graphs. None in all processes but the
        first, which writes it after the others have ended.

    Raises:
        PersonSearchError: the data, a checkpoint, the device or the loss is not usable.
    """
    with joined(config.device) as place:
        part = place.slice(config.batch_size)
        torch.manual_seed(config.seed)
        if config.threads:
            torch.set_num_threads(config.threads)
        build = _build_arguments(config)
        answers = None
        if config.teacher and config.live_teacher is None:
            answers = TeachersAnswers(config.teacher, dim=config.embedding_dim)
            log.info("%d answers of a teacher", len(answers))
        data = _read_data(
            config, build_network(**{**build, "pretrained": False}).card.input, answers
        )
        validation = read_validation(config, data.sources)
        build["num_ids"] = data.num_ids
        network = build_network(**build)
        set_serving_rules(network, config)
        if config.only_reid:
            network.learn_only_reid()
        network.freeze(config.freeze)
        build["pretrained"] = False  # whoever builds it again has the weights
        checkpoint = config.out / "checkpoint.pt"
        goes_on = config.resume or agreed(place.rank == 0 and _is_of_this_run(checkpoint))
        if not goes_on:
            _say_start(config)
            if config.weights:
                fresh = load_weights(network, config.weights, people=data.people)
                log.info(
                    "weights of %s; tensors that start fresh: %s",
                    config.weights, ", ".join(fresh) or "none",
                )  # fmt: skip
        teacher = None
        if config.live_teacher:
            teacher = LiveTeacher(
                config.live_teacher,
                dim=config.embedding_dim,
                num_ids=data.num_ids,
                mean_share=config.mean_share,
            )
        steps = Steps(
            network,
            place,
            loss_weights={
                "loss_box_reg": config.box_loss_weight,
                "loss_detection": config.detection_loss_weight,
                "loss_reid": config.reid_loss_weight,
                "loss_teacher": config.teacher_loss_weight,
                "loss_similarity": config.similarity_loss_weight,
            },
            optimizer=config.optimizer,
            lr=config.lr,
            momentum=config.momentum,
            weight_decay=config.weight_decay,
            clip_norm=config.clip_norm,
            precision=config.precision,
            layout=torch.channels_last if config.channels_last else torch.contiguous_format,
            views=Views(augment=config.augment, redress=teacher is not None)
            if config.crops
            else None,
            teacher=teacher,
        )
        done = _resume(checkpoint, config, steps) if goes_on else 0
        if goes_on:
            log.info("goes on after step %d, from %s", done, checkpoint)
        order = _order(config, data, part=part, start=done)
        log.info(
            "%d %s, %d people, %d steps of %d on %d × %s",
            len(data), "crops" if config.crops else "scenes", data.num_ids, order.steps,
            config.batch_size, place.count, place.device.type,
        )  # fmt: skip

        first = place.rank == 0
        told = opened(
            config.out,
            done=done,
            total=order.steps,
            every=config.log_every,
            batch_size=config.batch_size,
        )
        with (
            told if first else nullcontext() as records,
            tqdm(
                total=order.steps, initial=done, unit="step", disable=None if first else True
            ) as progress,
            Interrupts() as interrupts,
        ):

            def evaluate_if_due(records: Records) -> None:
                if validation is None or records.evaluated(done):
                    return
                if not _evaluation_is_due(config, done, order):
                    return
                with interrupts.at_once():
                    metrics = evaluate_network(
                        network,
                        validation,
                        gt_boxes=config.only_reid,
                        progress=partial(tqdm, desc="evaluating", leave=False, disable=None),
                    )
                records.evaluation(
                    done,
                    epochs=done // order.steps_per_epoch,
                    of="network",
                    on=validation.name,
                    metrics=metrics,
                )

            if records is not None:
                evaluate_if_due(records)  # where it was interrupted
            scenes = RunScenes(data, seed=config.seed)
            on_gpu = place.device.type == "cuda"
            shown = batches(
                scenes,
                order,
                workers=config.workers,
                pinned=on_gpu,
                collated=stacked if config.crops else collate,
            )
            for batch in interrupts.first_at_once(shown):
                epoch = done // order.steps_per_epoch
                rate = _rate(config, done, order.steps_per_epoch)
                losses, norm = steps.make(batch, rate=rate, number=done + 1)
                done += 1
                stops = interrupts.noted()
                if records is not None:
                    progress.update()
                    records.step(done, epoch=epoch, rate=rate, losses=losses, norm=norm)
                    if stops or _checkpoint_is_due(config, done, order):
                        save_checkpoint(checkpoint, _content(steps, done, build, config, data))
                    if not stops:
                        evaluate_if_due(records)
                if stops:
                    raise KeyboardInterrupt
    if not first:
        return None
    if config.only_reid:
        log.info("people are told apart: another run starts from it with --weights %s", checkpoint)
        return None
    assert isinstance(data, TrainingData) and validation  # else only_reid is set
    content = _content(steps, done, build, config, data)
    return finish(network_of(content), config, data, validation, steps=done)


def _read_data(
    config: TrainConfig, rule: InputRule, answers: TeachersAnswers | None
) -> TrainingData | CropData:
    shown: dict[str, Any] = {
        "rule": rule,
        "scale_jitter": config.scale_jitter,
        "answers": answers,
        "mean_share": config.mean_share,
    }
    if not config.crops:
        return TrainingData(config.data, augment=config.augment, **shown)
    data = CropData(config.crops, live=config.live_teacher is not None, **shown)
    if data.left_out:
        log.info("%d crops left out: neither a number nor an answer", data.left_out)
    return data


def _build_arguments(config: TrainConfig) -> dict[str, Any]:
    return {
        name: getattr(config, name)
        for name in (
            "head", "backbone", "name", "queue_size", "embedding_dim", "min_size", "max_size",
            "regions_per_image", "background_iou", "pretrained", "reid_loss", "pixel_labels",
            "focal",
        )
    }  # fmt: skip


def _say_start(config: TrainConfig) -> None:
    """Say what a preset is, and that a recipe's starting weights are missing."""
    if config.preset is None:
        return
    preset = PRESETS[config.preset]
    log.info("preset %s: %s", config.preset, preset.source)
    if config.weights is None and not config.pretrained:
        log.warning(
            "this run starts from random weights; the recipe starts from %s, given by --weights",
            preset.starts_from,
        )


def _order(
    config: TrainConfig, data: TrainingData | CropData, *, part: slice, start: int
) -> RunOrder:
    """Which scenes each step shows.

    Raises:
        DatasetError: there are fewer scenes than a batch takes.
    """
    scenes_per_epoch = config.scenes_per_epoch or len(data)
    if scenes_per_epoch < config.batch_size:
        told = ", ".join(map(str, config.crops or config.data))
        raise DatasetError(
            f"{told}: {scenes_per_epoch} scenes make no batch of {config.batch_size}"
        )
    return RunOrder(
        len(data),
        seed=config.seed,
        epochs=config.epochs,
        scenes_per_epoch=scenes_per_epoch,
        batch_size=config.batch_size,
        part=part,
        start=start,
        aspect_ratios=data.aspect_ratios if config.group_by_shape else None,
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


def _checkpoint_is_due(config: TrainConfig, done: int, order: RunOrder) -> bool:
    """After every so many steps, and after each epoch."""
    return done % config.checkpoint_every == 0 or done % order.steps_per_epoch == 0


def _evaluation_is_due(config: TrainConfig, done: int, order: RunOrder) -> bool:
    """After every so many epochs; not at the end where the model file is evaluated."""
    between = config.evaluate_every * order.steps_per_epoch
    last = done == order.steps
    return between > 0 and done > 0 and done % between == 0 and (config.only_reid or not last)


def _content(
    steps: Steps,
    done: int,
    build: dict[str, Any],
    config: TrainConfig,
    data: TrainingData | CropData,
) -> dict[str, Any]:
    """What a checkpoint holds."""
    return {
        **steps.state_dict(),
        "steps": done,
        "build": build,
        "people": data.people,
        "run": run_id(),
        "config": config.model_dump(mode="json"),
    }


def _is_of_this_run(checkpoint: Path) -> bool:
    """Whether this run, by torchrun's id, had come to this checkpoint before it was started again.

    What a run of another id left in the same directory does not count. How often torchrun started
    it says nothing: each machine counts only what failed there.
    """
    if run_id() is None or not checkpoint.exists():
        return False
    return bool(load_checkpoint(checkpoint).get("run") == run_id())


def _resume(checkpoint: Path, config: TrainConfig, steps: Steps) -> int:
    """Load everything that the next step depends on; the number of steps already done."""
    content = load_checkpoint(checkpoint)
    now, then = config.model_dump(mode="json"), content["config"]
    changed = [k for k in now if k not in FREE_TO_CHANGE and now[k] != then.get(k)]
    if changed:
        told = ", ".join(f"{k} was {then.get(k)!r} and is {now[k]!r}" for k in changed)
        raise PersonSearchError(f"{checkpoint}: cannot go on exactly: {told}")
    steps.load_state_dict(content)
    return int(content["steps"])
