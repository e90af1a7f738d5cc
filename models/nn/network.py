"""The person search network: trunk, proposals and heads in one module, and its builder."""

from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import normalize
from torchvision.models.detection.image_list import ImageList

from models.detections import Detections
from models.model_card import PIXEL_HEADS, DetectionRule, ModelCard
from models.nn.backbone import BACKBONES, with_batch_norm_folded
from models.nn.heads import HEADS
from models.nn.reid_losses import REID_LOSSES
from models.nn.roi_heads import PersonSearchRoIHeads
from models.nn.rpn import PersonRpn
from models.preprocess import InputRule, prepare
from models.proposals import ProposalRule

SCORE_MEANINGS = {
    "nae": "detection score = sigmoid of the batch-normalized embedding norm, in [0, 1]: "
    "how surely the box holds a person",
    "nae_plus": "detection score = mean over the region's pixels of the sigmoid of the "
    "batch-normalized embedding norm, divided by the scene's best, in [0, 1]: how surely the box "
    "holds a person beside the scene's other boxes; in every scene the best box has 1",
    "oim": "detection score = softmax of a person classifier, in [0, 1]: how surely the box holds "
    "a person",
}
SCORE_MEANINGS["nae_parts"] = SCORE_MEANINGS["nae"]
SCORE_MEANINGS["nae_plus_res5"] = SCORE_MEANINGS["nae_plus"]


NOT_REID = (
    "rpn.",
    "roi_heads.box_regressor.",
    "roi_heads.embedding_head.rescaler.",
    "roi_heads.embedding_head.classifier.",
)
"""Beginnings of the names of parameters that telling people apart does not use."""


class PersonSearchNet(nn.Module):
    """Person search on a two-stage detector.

    Its card says everything that a user of its weights must know; see `build_network`.
    """

    def __init__(
        self, backbone: nn.Module, rpn: PersonRpn, roi_heads: PersonSearchRoIHeads, card: ModelCard
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.rpn = rpn
        self.roi_heads = roi_heads
        self.card = card
        self.only_reid = False
        self._frozen: list[nn.Module] = []
        self._joined: tuple[nn.Module] | None = None

    def forward(
        self, images: Tensor, sizes: list[tuple[int, int]], targets: list[dict[str, Tensor]]
    ) -> dict[str, Tensor]:
        """Losses of a batch, in training mode.

        Args:
            images: [N, 3, H, W], prepared and padded.
            sizes: height and width of each without padding.
            targets: per image "boxes" [K, 4] in pixels of the resized image, "person_ids" [K]
                (−1: nobody named the person), optionally "ignored" [J, 4], optionally "answers"
                [K, D], a teacher's (`teacher_losses`), for all images or for none, and optionally
                "seed", an int that alone decides which of its anchors and regions are drawn.

        Returns:
            loss_objectness, loss_rpn_box_reg, loss_detection, loss_box_reg and loss_reid; with
            answers in the targets, loss_teacher and loss_similarity as well. Where `only_reid` is
            set, only those from loss_reid on, of the people in the targets' own boxes.
        """
        feature_map = self.features(images)
        if self.only_reid:
            return self.roi_heads.reid_losses(feature_map, targets)
        proposals, rpn_losses = self.rpn(ImageList(images, sizes), {"0": feature_map}, targets)
        sampled = self.roi_heads.sample(proposals, targets)
        return {**rpn_losses, **self.roi_heads.losses(feature_map, sampled)}

    def learn_only_reid(self) -> None:
        """Train only the part that tells people apart (see `forward`)."""
        self.only_reid = True
        for name, parameter in self.named_parameters():
            if name.startswith(NOT_REID):
                parameter.requires_grad_(False)

    def freeze(self, stages: int) -> None:
        """Exclude the backbone's first stages from training, their batch norms included.

        Raises:
            ValueError: it has fewer.
        """
        children = list(self.backbone.children())
        if stages > len(children):
            raise ValueError(f"expected at most {len(children)} stages to freeze, got {stages}")
        self._frozen = children[:stages]
        self._joined = None
        for stage in self._frozen:
            stage.requires_grad_(False)
        self.train(self.training)

    def features(self, images: Tensor) -> Tensor:
        """The feature map of a batch in training."""
        if not self._frozen:
            return self.backbone(images).float()
        if self._joined is None:  # made at the first step, when the weights are there
            # In a tuple it is no part of the network's own modules.
            self._joined = (with_batch_norm_folded(nn.Sequential(*self._frozen)),)
        with torch.no_grad():
            images = self._joined[0](images)
        for stage in list(self.backbone.children())[len(self._frozen) :]:
            images = stage(images)
        return images.float()

    def train(self, mode: bool = True) -> Self:
        """As for any module, but frozen stages stay in evaluation mode."""
        super().train(mode)
        for stage in self._frozen:
            stage.eval()
        return self

    @torch.no_grad()
    def detect(self, image: NDArray[np.uint8]) -> Detections:
        """People in one scene [H, W, 3]: what the exported graphs are checked against."""
        prepared = prepare(image, self.card.input)
        pixels = self._from_numpy(prepared.pixels)[None]
        feature_map = self.backbone(pixels).float()
        proposals, _ = self.rpn(ImageList(pixels, [prepared.size]), {"0": feature_map})
        found = self.roi_heads.detect(feature_map, proposals[0], prepared.size)
        boxes, scores, embeddings = (part.cpu().numpy() for part in found)
        return Detections(prepared.to_original(boxes), scores, embeddings)

    @torch.no_grad()
    def embed(self, image: NDArray[np.uint8], boxes: NDArray[np.floating]) -> NDArray[np.float32]:
        """Unit embeddings [N, D] of given boxes [N, 4] in a scene."""
        prepared = prepare(image, self.card.input)
        feature_map = self.backbone(self._from_numpy(prepared.pixels)[None]).float()
        regions = self.roi_heads.pool(feature_map, [self._from_numpy(prepared.to_network(boxes))])
        described = normalize(self.roi_heads.describe(regions)[2])
        embeddings: NDArray[np.float32] = described.cpu().numpy()
        return embeddings

    def _from_numpy(self, array: NDArray[np.float32]) -> Tensor:
        return torch.from_numpy(array).to(next(self.parameters()).device)


def build_network(
    head: str = "nae",
    backbone: str = "resnet50",
    *,
    name: str | None = None,
    num_ids: int = 0,
    queue_size: int = 5000,
    embedding_dim: int = 256,
    roi_size: tuple[int, int] | None = None,
    min_size: int | None = None,
    max_size: int | None = None,
    regions_per_image: int = 128,
    background_iou: float = 0.1,
    pretrained: bool = False,
    reid_loss: str = "oim",
    pixel_labels: str = "ours",
    focal: bool = False,
) -> PersonSearchNet:
    """Build a network.

    Args:
        head: a name in `HEADS`.
        backbone: a name in `BACKBONES`. "resnet50" is the published network; "efficientnet_lite0"
            is the same network for CPUs, with tall regions and anchors of people's shape.
        name: what its model file is called.
        num_ids: labeled identities that it will be trained on.
        queue_size: unlabeled people that the identity loss remembers.
        embedding_dim: D.
        roi_size: bins in height and width per region; None is the backbone's own.
        min_size, max_size: the input rule's; None is the backbone's own.
        regions_per_image: regions per image that the second half learns from.
        background_iou: regions that overlap nobody by as much are background; between this and
            0.5 they are left out.
        pretrained: start from ImageNet weights that a package ships.
        reid_loss: a name in `REID_LOSSES`.
        pixel_labels: of NAE+ heads: "published" labels pixels as the published code does, with its
            faults; "ours" marks nothing on background, and nothing where a person is beside the
            region.
        focal: of NAE+ heads: focal detection loss.

    Raises:
        ValueError: an unknown name, or no weights shipped for the backbone.
    """
    for kind, key, table in (
        ("head", head, HEADS),
        ("backbone", backbone, BACKBONES),
        ("reid_loss", reid_loss, REID_LOSSES),
        ("pixel_labels", pixel_labels, ("ours", "published")),
    ):
        if key not in table:
            raise ValueError(f"unknown {kind} {key!r}: expected one of {', '.join(table)}")
    parts = BACKBONES[backbone](pretrained=pretrained)
    rule = PROPOSALS[backbone]
    sizes = INPUT_SIZES[backbone]
    least = min_size or sizes[0]
    card = ModelCard(
        name=name or f"{head}-{backbone}",
        head=head,
        backbone=backbone,
        embedding_dim=embedding_dim,
        roi_size=roi_size or ROI_SIZES[backbone],
        input=InputRule(
            min_size=least,
            max_size=max_size or max(sizes[1], least),
            mean=parts.mean,
            std=parts.std,
            person_height=PERSON_SHARE * least // 100,
        ),
        proposals=rule,
        detections=DetectionRule(),
        score_meaning=SCORE_MEANINGS[head],
    )
    of_pixels = {"focal": focal, "published_labels": pixel_labels == "published"}
    roi_heads = PersonSearchRoIHeads(
        parts.box_head,
        HEADS[head](
            parts.trunk_channels,
            parts.head_channels,
            dim=embedding_dim,
            **(of_pixels if head in PIXEL_HEADS else {}),
        ),
        REID_LOSSES[reid_loss](num_ids, dim=embedding_dim, queue_size=queue_size),
        head_channels=parts.head_channels,
        roi_size=card.roi_size,
        stride=rule.stride,
        detections=card.detections,
        regions_per_image=regions_per_image,
        background_iou=background_iou,
    )
    return PersonSearchNet(parts.trunk, PersonRpn(parts.trunk_channels, rule), roi_heads, card)


PROPOSALS = {
    "resnet50": ProposalRule(),
    "efficientnet_lite0": ProposalRule(
        anchor_sizes=(32, 45, 64, 90, 128, 180, 256, 362),
        anchor_ratios=(1.5, 2.8),
        before_nms=1000,
        after_nms=100,
    ),
}
INPUT_SIZES = {"resnet50": (900, 1500), "efficientnet_lite0": (576, 1024)}
ROI_SIZES = {"resnet50": (14, 14), "efficientnet_lite0": (12, 6)}
# Of the input's shorter side, in percent: a bare crop is resized to that height.
PERSON_SHARE = 33
