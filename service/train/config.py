"""Every flag of a training run, saved into the run and its checkpoints."""

from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, Field, model_validator
from pydantic_settings import SettingsConfigDict

from service.train.presets import PRESETS


def _as_text(given: Any) -> Any:
    """A directory called 2024 arrives as a number: items of a list are read as JSON."""
    return str(given) if isinstance(given, int) else given


class TrainConfig(BaseModel):
    """Train a person search network, then evaluate, export and check it.

    The defaults are the published recipe for ResNet-50.
    """

    model_config = SettingsConfigDict(
        frozen=True, extra="forbid", cli_prog_name="python -m service.train"
    )

    data: list[Annotated[Path, BeforeValidator(_as_text)]] = Field(
        [], description="annotated scenes to train on: CUHK-SYSU, PRW, COCO or our format"
    )
    crops: list[Annotated[Path, BeforeValidator(_as_text)]] = Field(
        [],
        description="instead of --data, with --only-reid: pictures of one person each, a ZIP or a "
        "directory, named as Market-1501 does",
    )
    teacher: list[Annotated[Path, BeforeValidator(_as_text)]] = Field(
        [],
        description="a network that tells people apart, to learn from too: its .xml (OpenVINO), to "
        "be asked about all that is shown, or files of its answers (models.datasets.teacher)",
    )
    out: Path = Field(description="where the run goes: log, checkpoint, model file")
    preset: str | None = Field(
        None, description=f"recipe to start from, other flags win: {', '.join(PRESETS)}"
    )
    val: Path | None = Field(
        None, description="annotated scenes to evaluate on; without it, the first --data"
    )
    val_scenes: int | None = Field(None, description="evaluate on so many scenes at most", ge=1)
    gallery_size: int = Field(
        100, description="scenes that a query of CUHK-SYSU is searched in; -1 is all", ge=-1
    )
    evaluate_every: int = Field(
        0, description="epochs between evaluations; 0 is only at the end", ge=0
    )
    augment: bool = Field(
        False,
        description="show scenes in other light, blurred, noisy, with people partly hidden, as "
        "surveillance pictures are",
    )
    scale_jitter: float = Field(
        1.0, description="the input's size is multiplied by 1/x to x, alike in a batch", ge=1
    )
    licence: str = Field("not stated", description="of the training data, for the model card")

    head: Literal["nae", "nae_parts", "nae_plus", "nae_plus_res5", "oim"] = "nae"
    backbone: Literal["resnet50", "efficientnet_lite0"] = "resnet50"
    reid_loss: Literal["oim", "oim_smr", "cosine_softmax"] = "oim"
    pixel_labels: Literal["ours", "published"] = Field(
        "ours", description="of NAE+: which pixels count as a person; published has faults"
    )
    focal: bool = Field(False, description="of NAE+: focal detection loss")
    name: str | None = Field(None, description="of the model file")
    weights: Path | None = Field(
        None,
        description="to start from: a checkpoint of ours, a published one, or ImageNet's ResNet-50",
    )
    pretrained: bool = Field(
        False, description="start from ImageNet weights that a package ships (efficientnet_lite0)"
    )
    embedding_dim: int = Field(256, ge=8)
    queue_size: int = Field(5000, ge=0)
    min_size: int | None = Field(None, description="shorter side in pixels", ge=64)
    max_size: int | None = Field(None, description="longer side in pixels, at most", ge=64)

    epochs: int = Field(22, ge=1)
    scenes_per_epoch: int | None = Field(None, description="default: as many as there are", ge=1)
    batch_size: int = Field(5, description="scenes per step, over all processes", ge=1)
    group_by_shape: bool = Field(False, description="batches of scenes of like shape")
    optimizer: Literal["sgd", "adamw"] = "sgd"
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
    teacher_loss_weight: float = Field(
        1.0, description="of the cosine to the teacher's answer", ge=0
    )
    mean_share: float = Field(
        0.0,
        description="of a teacher's answers: share of the mean about the same person",
        ge=0,
        le=1,
    )
    similarity_loss_weight: float = Field(
        10.0, description="of the batch's similarities against those of the answers", ge=0
    )
    freeze: int = Field(
        0, description="the backbone's first so many stages keep their weights", ge=0
    )
    regions_per_image: int = Field(128, ge=2)
    background_iou: float = Field(
        0.1, description="regions that overlap nobody by as much are background", ge=0, le=0.5
    )
    score_threshold: float = Field(0.5, description="of the model file", ge=0, lt=1)
    serve_min_size: int | None = Field(
        None, description="shorter side in the model file; default: as trained", ge=64
    )
    serve_max_size: int | None = Field(None, description="longer side, likewise", ge=64)
    score_shift: float = Field(
        0.0,
        description="of NAE: added to the logit of the detection score in the model file, so that "
        "class-weighted similarity ranks by doubt only what is doubtful",
    )
    only_reid: bool = Field(
        False,
        description="train nothing but to tell people apart, in their labelled boxes; no model "
        "file is written, another run starts from the checkpoint",
    )
    seed: int = Field(1, ge=0)

    device: Literal["auto", "cpu", "cuda"] = "auto"
    precision: Literal["fp32", "bf16", "fp16"] = Field(
        "fp32", description="of the backbone and box head; heads and losses are always fp32"
    )
    threads: int | None = Field(None, description="CPU threads of torch, per process", ge=1)
    channels_last: bool = Field(
        False,
        description="twice as fast for efficientnet_lite0 on a CPU; but torch's batch norm there "
        "then sums less exactly",
    )
    workers: int = Field(1, description="per process, helpers that prepare scenes", ge=0)
    log_every: int = Field(20, description="steps whose mean losses are told", ge=1)
    checkpoint_every: int = Field(
        200, description="steps between checkpoints; each epoch ends with one, too", ge=1
    )
    resume: bool = Field(
        False,
        description="go on from the checkpoint in --out; of a finished run, write the model again",
    )

    @model_validator(mode="before")
    @classmethod
    def _fill_from_preset(cls, given: Any) -> Any:
        preset = given.get("preset") if isinstance(given, dict) else None
        if preset is None:
            return given
        if preset not in PRESETS:
            raise ValueError(f"unknown preset {preset!r}: expected one of {', '.join(PRESETS)}")
        return {**PRESETS[preset].values, **given}

    @model_validator(mode="after")
    def _check_start(self) -> Self:
        preset = PRESETS[self.preset] if self.preset else None
        if preset and preset.needs_weights and self.weights is None:
            raise ValueError(
                f"preset {self.preset} starts from {preset.starts_from}: pass --weights FILE"
            )
        if self.pretrained and self.backbone != "efficientnet_lite0":
            raise ValueError(
                f"no package ships ImageNet weights of {self.backbone}: pass them with --weights "
                "FILE instead of --pretrained"
            )
        if self.score_shift and self.head not in ("nae", "nae_parts"):
            raise ValueError(
                f"--score-shift is for --head nae or nae_parts, and the head is {self.head}"
            )
        if bool(self.data) == bool(self.crops):
            raise ValueError("expected either --data or --crops, got both or neither")
        if self.crops and not self.only_reid:
            raise ValueError("--crops teaches only to tell people apart: pass --only-reid with it")
        if self.live_teacher is not None and len(self.teacher) > 1:
            raise ValueError(
                "--teacher: expected one .xml, or files of answers; got "
                + ", ".join(map(str, self.teacher))
            )
        if self.evaluate_every and self.crops and self.val is None:
            raise ValueError(
                "--evaluate-every with --crops needs scenes to evaluate on: pass --val"
            )
        return self

    @property
    def live_teacher(self) -> Path | None:
        """The teacher that is asked while the network learns, if there is one."""
        return next((path for path in self.teacher if path.suffix == ".xml"), None)
