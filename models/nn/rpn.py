"""The region proposal network: torchvision's, with the published network's rules."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.rpn import RegionProposalNetwork, RPNHead
from torchvision.ops import box_iou, clip_boxes_to_image, nms, remove_small_boxes

from models.nn.joint import joint_count
from models.nn.sampling import BalancedSampler, scene_seed
from models.proposals import MIN_PROPOSAL_SIDE, ProposalRule

IGNORE_IOU = 0.3


class PersonRpn(RegionProposalNetwork):
    """Proposals ranked by raw logits, and an L1 box loss, as torchvision 0.4 had them."""

    def __init__(self, channels: int, rule: ProposalRule) -> None:
        anchors = AnchorGenerator(
            (tuple(rule.anchor_sizes),), (tuple(float(r) for r in rule.anchor_ratios),)
        )
        head = RPNHead(channels, anchors.num_anchors_per_location()[0])
        super().__init__(
            anchors,
            head,
            fg_iou_thresh=0.7,
            bg_iou_thresh=0.3,
            batch_size_per_image=ANCHORS_PER_SCENE,
            positive_fraction=0.5,
            pre_nms_top_n={"training": 2 * rule.before_nms, "testing": rule.before_nms},
            post_nms_top_n={"training": TRAINING_PROPOSALS, "testing": rule.after_nms},
            nms_thresh=rule.nms_iou,
        )
        self.fg_bg_sampler = BalancedSampler(ANCHORS_PER_SCENE, 0.5)
        self._seeds: list[int | None] = []

    def filter_proposals(
        self,
        proposals: Tensor,
        objectness: Tensor,
        image_shapes: Sequence[tuple[int, int]],
        num_anchors_per_level: Sequence[int],
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Per image the best boxes [R, 4] and their logits [R]."""
        kept_boxes, kept_logits = [], []
        logits_by_image = objectness.detach().reshape(len(proposals), -1)
        for boxes, logits, shape in zip(proposals, logits_by_image, image_shapes, strict=True):
            count = min(self.pre_nms_top_n(), len(logits))
            best = torch.sort(logits, descending=True, stable=True).indices[:count]
            clipped = clip_boxes_to_image(boxes[best], shape)
            wide = remove_small_boxes(clipped, MIN_PROPOSAL_SIDE)
            clipped, logits = clipped[wide], logits[best][wide]
            kept = nms(clipped, logits, self.nms_thresh)[: self.post_nms_top_n()]
            kept_boxes.append(clipped[kept])
            kept_logits.append(logits[kept])
        return kept_boxes, kept_logits

    def assign_targets_to_anchors(
        self, anchors: list[Tensor], targets: list[dict[str, Tensor]]
    ) -> tuple[list[Tensor], list[Tensor]]:
        """As torchvision; anchors on people to ignore are neither positive nor negative."""
        self._seeds = [scene_seed(target, part=0) for target in targets]
        labels, matched = super().assign_targets_to_anchors(anchors, targets)
        for i, (label, target) in enumerate(zip(labels, targets, strict=True)):
            ignored = target.get("ignored")
            if ignored is not None and len(ignored):
                near = box_iou(anchors[i], ignored).amax(dim=1) >= IGNORE_IOU
                labels[i] = torch.where(near & (label == 0), -1.0, label)
        return labels, matched

    def compute_loss(
        self,
        objectness: Tensor,
        pred_bbox_deltas: Tensor,
        labels: list[Tensor],
        regression_targets: list[Tensor],
    ) -> tuple[Tensor, Tensor]:
        """Mean BCE over the sampled anchors; L1 over the positives by the number of samples."""
        positive, negative = self.fg_bg_sampler(labels, self._seeds)
        positive = torch.where(torch.cat(positive, dim=0))[0]
        sampled = torch.cat([positive, torch.where(torch.cat(negative, dim=0))[0]])
        box_loss = functional.l1_loss(
            pred_bbox_deltas[positive],
            torch.cat(regression_targets, dim=0)[positive],
            reduction="sum",
        )
        objectness_loss = functional.binary_cross_entropy_with_logits(
            objectness.flatten()[sampled], torch.cat(labels, dim=0)[sampled], reduction="sum"
        )
        count = joint_count(sampled.numel()).to(box_loss)
        return objectness_loss / count, box_loss / count


TRAINING_PROPOSALS = 2000
ANCHORS_PER_SCENE = 256
