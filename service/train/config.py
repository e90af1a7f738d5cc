"""Every flag of a training run, saved into the run and its checkpoints."""

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class TrainConfig(BaseModel):
    """Train a person search network, then evaluate, export and check it.

    The defaults are the published recipe for ResNet-50.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    data: list[Path] = Field(
        min_length=1, description="directories of annotated scenes (images/ + annotations.json)"
    )
    out: Path = Field(description="where the run goes: log, checkpoint, model file")
    val: Path | None = Field(
        None, description="annotated scenes to evaluate on; without it, the first --data"
    )
    val_scenes: int | None = Field(None, description="evaluate on so many scenes at most", ge=1)
    crops: Path | None = Field(
        None, description="crops of people (Market-1501 names; ZIP or directory) to paste"
    )
    composed: float = Field(
        0.8, description="share of the scenes that are composed, where crops are given", ge=0, le=1
    )
    crops_per_scene: int = Field(8, description="at most, at least a third of it", ge=1)
    licence: str = Field("not stated", description="of the training data, for the model card")

    head: Literal["nae"] = "nae"
    backbone: Literal["resnet50", "efficientnet_lite0"] = "resnet50"
    name: str | None = Field(None, description="of the model file")
    weights: Path | None = Field(None, description="a checkpoint of ours to start from")
    pretrained: bool = Field(
        False, description="start from ImageNet weights that a package ships (efficientnet_lite0)"
    )
    embedding_dim: int = Field(256, ge=8)
    queue_size: int = Field(5000, ge=0)
    min_size: int | None = Field(None, description="shorter side in pixels", ge=64)
    max_size: int | None = Field(None, description="longer side in pixels, at most", ge=64)

    epochs: int = Field(22, ge=1)
    scenes_per_epoch: int | None = Field(None, description="default: as many as there are", ge=1)
    batch_size: int = Field(5, ge=1)
    lr: float = Field(0.003, gt=0)
    lr_schedule: Literal["step", "cosine"] = "step"
    lr_step: int = Field(16, description="epochs until the rate is divided by ten", ge=1)
    warmup_steps: int | None = Field(None, description="default: the first epoch", ge=0)
    momentum: float = Field(0.9, ge=0, lt=1)
    weight_decay: float = Field(5e-4, ge=0)
    clip_norm: float = Field(10.0, gt=0)
    box_loss_weight: float = Field(10.0, ge=0)
    detection_loss_weight: float = Field(1.0, ge=0)
    reid_loss_weight: float = Field(1.0, ge=0)
    regions_per_image: int = Field(128, ge=2)
    background_iou: float = Field(
        0.1, description="regions that overlap nobody by as much are background", ge=0, le=0.5
    )
    score_threshold: float = Field(0.5, description="of the model file", ge=0, lt=1)
    serve_min_size: int | None = Field(
        None, description="shorter side in the model file; default: as trained", ge=64
    )
    serve_max_size: int | None = Field(None, description="longer side, likewise", ge=64)
    seed: int = 1

    device: Literal["auto", "cpu", "cuda"] = "auto"
    threads: int | None = Field(None, description="CPU threads of torch", ge=1)
    channels_last: bool = Field(
        False,
        description="twice as fast for efficientnet_lite0 on a CPU; but torch's batch norm there "
        "then sums less exactly",
    )
    workers: int = Field(1, description="processes that prepare scenes", ge=0)
    checkpoint_every: int = Field(200, description="steps between checkpoints", ge=1)
    resume: bool = Field(
        False,
        description="go on from the checkpoint in --out; of a finished run, write the model again",
    )
