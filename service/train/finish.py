"""The end of a run: export, parity, evaluation, and the card of the model file."""

import dataclasses
import json
import logging
from functools import partial
from pathlib import Path
from typing import Any

from tqdm import tqdm

from models.datasets.read import read_dataset
from models.datasets.scene import SceneDataset
from models.detector import OnnxDetector
from models.evaluate import evaluate
from models.model_card import save_card
from models.nn.export import export
from models.nn.nae_head import NaeHead
from models.nn.network import PersonSearchNet
from models.nn.parity import check_parity
from service.train.config import TrainConfig
from service.train.data import TrainingData, describe
from service.train.evaluation import of_interest
from service.train.records import opened

log = logging.getLogger("service.train")

PARITY_SCENES = 4


def read_validation(config: TrainConfig, sources: list[SceneDataset]) -> SceneDataset | None:
    """What a run is evaluated on; None where it learns of crops and no scenes are given."""
    if config.val is None and not sources:
        return None
    if config.val is None:
        dataset = sources[0]
    else:
        dataset = read_dataset(config.val, split="test", gallery_size=config.gallery_size)
    return dataset.first(config.val_scenes) if config.val_scenes else dataset


def set_serving_rules(network: PersonSearchNet, config: TrainConfig) -> None:
    """Let a network detect as its model file will; training is not touched by this."""
    trained = network.card.input
    min_size = config.serve_min_size or trained.min_size
    network.card = dataclasses.replace(
        network.card,
        input=dataclasses.replace(
            trained,
            min_size=min_size,
            max_size=config.serve_max_size or trained.max_size,
            person_height=trained.person_height * min_size // trained.min_size,
        ),
        detections=dataclasses.replace(
            network.card.detections, score_threshold=config.score_threshold
        ),
    )
    network.roi_heads.rule = network.card.detections


def finish(
    network: PersonSearchNet,
    config: TrainConfig,
    data: TrainingData,
    validation: SceneDataset,
    *,
    steps: int,
) -> Path:
    """Write the model file of a trained network, on the CPU and in evaluation mode."""
    set_serving_rules(network, config)
    head = network.roi_heads.embedding_head
    if isinstance(head, NaeHead):
        head.shift_scores(config.score_shift)
    training: dict[str, Any] = {
        "licence": config.licence,
        "scenes": describe(data.sources),
        "people": data.num_ids,
        "steps": steps,
        "recipe": config.model_dump(
            mode="json", exclude={"data", "out", "val", "weights", "licence", "resume"}
        ),
    }
    network.card = dataclasses.replace(network.card, training=training)
    model = export(network, config.out / "model")
    some = [scene.read() for scene in validation.scenes[:PARITY_SCENES]]
    log.info("parity of torch and ONNX: %s", json.dumps(check_parity(network, model, some)))
    measured = evaluate(
        OnnxDetector(model), validation, progress=partial(tqdm, desc="evaluating", disable=None)
    )
    where = validation.name if config.val else f"{validation.name} (its training scenes)"
    metrics = of_interest(measured)
    with opened(
        config.out,
        done=steps,
        total=steps,
        every=config.log_every,
        batch_size=config.batch_size,
    ) as records:
        records.evaluation(steps, epochs=config.epochs, of="model file", on=where, metrics=metrics)
    save_card(dataclasses.replace(network.card, metrics={where: metrics}), model)
    log.info("model file: %s", model)
    return model
