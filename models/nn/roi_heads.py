"""The second half of the network: proposals in; losses or detections out."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional
from torchvision.models.detection._utils import BoxCoder, Matcher
from torchvision.ops import box_iou, clip_boxes_to_image, nms, remove_small_boxes, roi_align

from models.model_card import DetectionRule
from models.nn.distillation import teacher_losses
from models.nn.heads import Head
from models.nn.joint import joint_count
from models.nn.projector import projector
from models.nn.reid_losses import ReidLoss
from models.nn.rpn import IGNORE_IOU
from models.nn.sampling import BalancedSampler, SampledRegions, scene_seed
from models.proposals import BOX_WEIGHTS, MIN_DETECTION_SIDE
from models.roi_align import SAMPLES

POSITIVE_IOU = 0.5


class PersonSearchRoIHeads(nn.Module):
    """RoIAlign, box head, box regression, and the head that embeds and scores."""

    def __init__(
        self,
        box_head: nn.Module,
        embedding_head: Head,
        reid_loss: ReidLoss,
        *,
        head_channels: int,
        roi_size: tuple[int, int],
        stride: int,
        detections: DetectionRule,
        regions_per_image: int = 128,
        background_iou: float = 0.1,
    ) -> None:
        super().__init__()
        self.box_head = box_head
        self.embedding_head = embedding_head
        self.reid_loss = reid_loss
        self.box_regressor = projector(head_channels, 4)
        self.roi_size = roi_size
        self.stride = stride
        self.rule = detections
        self.coder = BoxCoder(BOX_WEIGHTS)
        self.matcher = Matcher(POSITIVE_IOU, background_iou, allow_low_quality_matches=False)
        self.sampler = BalancedSampler(regions_per_image, 0.5)

    def pool(self, feature_map: Tensor, boxes: list[Tensor]) -> Tensor:
        """Regions [R, C, h, w] of boxes, given per image."""
        return roi_align(feature_map, boxes, self.roi_size, 1 / self.stride, sampling_ratio=SAMPLES)

    def describe(self, regions: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Deltas [R, 4], the head's logits and embeddings [R, D] of pooled regions."""
        deep, logits, embeddings = self._embed(regions)
        return self.box_regressor(self.embedding_head.pool(deep)), logits, embeddings

    def _embed(self, regions: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        deep = self.box_head(regions).float()
        embeddings, logits = self.embedding_head(regions.float(), deep)
        return deep, logits, embeddings

    @torch.no_grad()
    def sample(
        self, proposals: list[Tensor], targets: list[dict[str, Tensor]]
    ) -> list[SampledRegions]:
        """Choose the regions to learn from; labelled boxes are among the candidates."""
        chosen = []
        for boxes, target in zip(proposals, targets, strict=True):
            candidates = torch.cat([boxes, target["boxes"]])
            if len(target["boxes"]):
                match = self.matcher(box_iou(target["boxes"], candidates))
            else:
                match = candidates.new_full((len(candidates),), Matcher.BELOW_LOW_THRESHOLD).long()
            label = torch.where(match >= 0, 1.0, torch.where(match == -1, 0.0, -1.0))
            ignored = target.get("ignored")
            if ignored is not None and len(ignored):
                near = box_iou(candidates, ignored).amax(dim=1) >= IGNORE_IOU
                label = torch.where(near & (label == 0), -1.0, label)
            seed = scene_seed(target, part=1)
            (positive,), (negative,) = self.sampler([label], [seed])
            keep = torch.where(positive | negative)[0]
            index = match[keep].clamp(min=0)
            answers = target.get("answers")
            chosen.append(
                SampledRegions(
                    candidates[keep],
                    label[keep] == 1,
                    _take(target["person_ids"], index, fill=-1),
                    _take(target["boxes"], index, fill=0),
                    None if answers is None else _take(answers, index, fill=0),
                )
            )
        return chosen

    def losses(self, feature_map: Tensor, sampled: list[SampledRegions]) -> dict[str, Tensor]:
        """Detection, box and identity loss of the sampled regions; with answers, the teacher's."""
        boxes = [part.boxes for part in sampled]
        deltas, logits, embeddings = self.describe(self.pool(feature_map, boxes))
        is_person = torch.cat([part.is_person for part in sampled])
        targets = torch.cat(self.coder.encode([part.matched for part in sampled], boxes))
        box_loss = functional.smooth_l1_loss(
            deltas[is_person], targets[is_person], beta=1.0, reduction="sum"
        )
        person_ids = torch.cat([part.person_ids for part in sampled])
        return {
            "loss_detection": self.embedding_head.detection_loss(logits, sampled),
            "loss_box_reg": box_loss / joint_count(len(is_person)).to(box_loss),
            "loss_reid": self.reid_loss(embeddings[is_person], person_ids[is_person]),
            **_of_teacher(embeddings, [part.answers for part in sampled], is_person),
        }

    def reid_losses(
        self, feature_map: Tensor, targets: list[dict[str, Tensor]]
    ) -> dict[str, Tensor]:
        """Identity loss of the people in their labelled boxes; with answers, the teacher's too.

        0 where they are fewer than two.
        """
        answers = [target.get("answers") for target in targets]
        if sum(len(target["boxes"]) for target in targets) < 2:  # too few for batch norm
            nothing = feature_map.sum() * 0
            none = {"loss_reid": nothing}
            if answers[0] is not None:
                none |= {"loss_teacher": nothing, "loss_similarity": nothing}
            return none
        regions = self.pool(feature_map, [target["boxes"] for target in targets])
        _, _, embeddings = self._embed(regions)
        person_ids = torch.cat([target["person_ids"] for target in targets])
        everybody = torch.ones_like(person_ids, dtype=torch.bool)
        return {
            "loss_reid": self.reid_loss(embeddings, person_ids),
            **_of_teacher(embeddings, answers, everybody),
        }

    def detect(
        self, feature_map: Tensor, proposals: Tensor, size: tuple[int, int]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Boxes [N, 4] in pixels of the resized image, scores [N] and unit embeddings [N, D]."""
        deltas, logits, embeddings = self.describe(self.pool(feature_map, [proposals]))
        boxes = clip_boxes_to_image(self.coder.decode_single(deltas, proposals), size)
        scores = self.embedding_head.scores(logits)
        good = torch.where(scores > self.rule.score_threshold)[0]
        good = good[remove_small_boxes(boxes[good], MIN_DETECTION_SIDE)]
        # Scores near 1 are equal in float32 where logits are not.
        ranking = logits if logits.ndim == 1 else scores
        kept = good[nms(boxes[good], ranking[good], self.rule.nms_iou)]
        kept = kept[: self.rule.max_per_scene]
        return boxes[kept], scores[kept], functional.normalize(embeddings[kept])


def _of_teacher(
    embeddings: Tensor, answers: Sequence[Tensor | None], is_person: Tensor
) -> dict[str, Tensor]:
    given = [part for part in answers if part is not None]
    if not given:
        return {}
    return teacher_losses(embeddings[is_person], torch.cat(given)[is_person])


def _take(rows: Tensor, index: Tensor, *, fill: int) -> Tensor:
    """Rows at indices; if the tensor has no rows, as many filled ones."""
    if len(rows):
        return rows[index]
    return rows.new_full((len(index), *rows.shape[1:]), fill)
