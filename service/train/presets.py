"""Recipes by name, for `--preset`; any flag beside it wins over what stands here."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Preset:
    """One recipe.

    Attributes:
        values: fields of TrainConfig.
        source: where the recipe comes from, and what in it is a stand-in.
        starts_from: the weights that the recipe starts from, which are asked for.
        needs_weights: whether it is no such training without them.
    """

    values: dict[str, Any]
    source: str
    starts_from: str
    needs_weights: bool = False


PUBLISHED = {
    "backbone": "resnet50",
    "reid_loss": "oim",
    "embedding_dim": 256,
    "min_size": 900,
    "max_size": 1500,
    "batch_size": 5,
    "lr": 0.003,
    "lr_schedule": "step",
    "warmup_steps": None,  # all of the first epoch
    "momentum": 0.9,
    "weight_decay": 5e-4,
    "clip_norm": 10.0,
    "box_loss_weight": 10.0,
    "detection_loss_weight": 1.0,
    "reid_loss_weight": 1.0,
    "regions_per_image": 128,
    "background_iou": 0.1,
    "score_threshold": 0.5,
    "seed": 1,
}
FROM_IMAGENET = {"epochs": 22, "lr_step": 16}
FROM_NAE = {"epochs": 11, "lr_step": 8, "pixel_labels": "published"}
CUHK_SYSU = {"queue_size": 5000}
# NAE's own values for PRW were never published.
PRW = {"queue_size": 500}
PRW_FROM_IMAGENET = {"epochs": 18, "lr_step": 16}

LIGHT = {
    "head": "nae",
    "backbone": "efficientnet_lite0",
    "reid_loss": "cosine_softmax",
    "queue_size": 0,
    "optimizer": "adamw",
    "lr_schedule": "cosine",
    "warmup_steps": 100,
    "weight_decay": 0.02,
    "channels_last": True,
    "augment": True,
}
LIGHT_SCENES = {
    "epochs": 5,
    "scenes_per_epoch": 1600,
    "batch_size": 4,
    "lr": 0.0005,
    "min_size": 576,
    "scale_jitter": 1.25,
    "box_loss_weight": 2.0,
    "background_iou": 0.4,
    "regions_per_image": 48,
    "score_threshold": 0.3,
    "score_shift": 2.0,
    "serve_min_size": 768,
    "serve_max_size": 1366,
}
# Without the identity loss, answers are imitated far sooner. It may still be worth its place: with
# real labels from two cameras it told people of another camera apart better (models/README.md).
TAUGHT = {
    **LIGHT,
    "head": "nae_parts",
    "freeze": 6,
    "reid_loss_weight": 0.0,
    "teacher_loss_weight": 1.0,
    "similarity_loss_weight": 10.0,
    "mean_share": 0.5,
}
PACKAGED_WEIGHTS = "ImageNet weights that a package ships"

IMAGENET_WEIGHTS = "ImageNet weights of ResNet-50 (torchvision's resnet50-….pth)"
NAE_WEIGHTS = "trained NAE weights (the checkpoint.pt of a run with --head nae, or a published one)"
NAE_SOURCE = "the NAE authors' command for CUHK-SYSU"
NAE_PLUS_SOURCE = "the NAE authors' settings for NAE+ on CUHK-SYSU"
OIM_SOURCE = f"{NAE_SOURCE}, with the OIM head that it is compared with"
STAND_IN = "; 18 epochs and a queue of 500, SeqNet's for PRW, stand in for values never published"
QUEUE_STAND_IN = "; a queue of 500, SeqNet's for PRW, stands in for a value never published"

PRESETS = {
    "nae-cuhk_sysu": Preset(
        {**PUBLISHED, **FROM_IMAGENET, **CUHK_SYSU, "head": "nae"}, NAE_SOURCE, IMAGENET_WEIGHTS
    ),
    "nae-prw": Preset(
        {**PUBLISHED, **PRW_FROM_IMAGENET, **PRW, "head": "nae"},
        NAE_SOURCE + STAND_IN,
        IMAGENET_WEIGHTS,
    ),
    "nae_plus-cuhk_sysu": Preset(
        {**PUBLISHED, **FROM_NAE, **CUHK_SYSU, "head": "nae_plus"},
        NAE_PLUS_SOURCE,
        NAE_WEIGHTS,
        needs_weights=True,
    ),
    "nae_plus-prw": Preset(
        {**PUBLISHED, **FROM_NAE, **PRW, "head": "nae_plus"},
        NAE_PLUS_SOURCE + QUEUE_STAND_IN,
        NAE_WEIGHTS,
        needs_weights=True,
    ),
    "oim-cuhk_sysu": Preset(
        {**PUBLISHED, **FROM_IMAGENET, **CUHK_SYSU, "head": "oim"}, OIM_SOURCE, IMAGENET_WEIGHTS
    ),
    "oim-prw": Preset(
        {**PUBLISHED, **PRW_FROM_IMAGENET, **PRW, "head": "oim"},
        OIM_SOURCE + STAND_IN,
        IMAGENET_WEIGHTS,
    ),
    "light-reid": Preset(
        {
            **LIGHT,
            "pretrained": True,
            "only_reid": True,
            "epochs": 10,
            "batch_size": 64,
            "lr": 0.001,
            "min_size": 64,
            "max_size": 128,
        },
        "this project's, the first stage of the models that ship: crops of 64 × 128",
        PACKAGED_WEIGHTS,
    ),
    "light": Preset(
        {**LIGHT, **LIGHT_SCENES},
        "this project's, the second stage of the models that ship: composed scenes of 720 × 576",
        "a checkpoint of the preset light-reid",
        needs_weights=True,
    ),
    "taught-people": Preset(
        {
            **TAUGHT,
            "pretrained": True,
            "only_reid": True,
            "epochs": 40,
            "scenes_per_epoch": 6400,
            "batch_size": 64,
            "lr": 0.001,
            "min_size": 64,
            "max_size": 128,
            "scale_jitter": 1.3,
        },
        "this project's, the first stage of models that learn from a teacher: crops of about "
        "64 × 128 (--crops, --teacher)",
        PACKAGED_WEIGHTS,
    ),
    "taught-search": Preset(
        {**LIGHT_SCENES, **TAUGHT, "regions_per_image": 32},
        "this project's, the second stage of models that learn from a teacher: composed scenes of "
        "720 × 576 (--teacher)",
        "a checkpoint of the preset taught-people",
        needs_weights=True,
    ),
    "quick": Preset(
        {
            "head": "nae",
            "backbone": "efficientnet_lite0",
            "pretrained": True,
            "epochs": 6,
            "batch_size": 4,
            "lr": 0.02,
            "lr_schedule": "cosine",
            "warmup_steps": 20,
            "min_size": 256,
            "regions_per_image": 32,
            "detection_loss_weight": 10.0,
            "score_threshold": 0.1,
            "channels_last": True,
        },
        "this project's, for 80 generated scenes on two cores",
        PACKAGED_WEIGHTS,
    ),
    "generated": Preset(
        {
            "backbone": "efficientnet_lite0",
            "pretrained": True,
            "queue_size": 64,
            "epochs": 10,
            "batch_size": 4,
            "lr": 0.01,
            "lr_schedule": "cosine",
            "warmup_steps": 20,
            "min_size": 256,
            "regions_per_image": 32,
            "detection_loss_weight": 5.0,
            "box_loss_weight": 2.0,
            "score_threshold": 0.1,
            "channels_last": True,
        },
        "this project's, for 160 generated scenes: every head learns to find people with it",
        PACKAGED_WEIGHTS,
    ),
}
