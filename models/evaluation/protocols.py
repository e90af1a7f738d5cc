"""Scoring rules: ours, and those of the published code."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Protocol:
    """Every choice that two ways of scoring make differently.

    Attributes:
        matching: A name of models.evaluation.detection.MATCHINGS: which detections are right.
        interpolated: Whether detection AP takes the best precision at a recall or a larger one
            (PASCAL VOC 2010), or the area by steps.
        detection_min_score: Detections below it are left out of detection.
        min_height: People below so many pixels are neutral in detection.
        detection_ignore_iou: From this IoU with a neutral person on, a detection that is not right
            is dropped instead of counted as wrong.
        labeled_from: From which of the dataset's own numbers on a person counts as labeled where
            detection is scored on labeled people only.
        search_min_score: Detections below it are left out of search.
        search_ignore_iou: From this IoU with an ignored box on, a detection that does not overlap
            the person enough is dropped.
        iou_rule: A name of models.evaluation.search.IOU_RULES.
        one_box: Whether a person is in a scene once at most: only the first box of theirs counts.
        repeated_scenes: "twice": a scene that is in a gallery twice is searched twice. "once": it
            is searched once, but the person is to be found twice.
    """

    matching: str
    interpolated: bool
    detection_min_score: float
    min_height: float
    detection_ignore_iou: float
    labeled_from: int
    search_min_score: float
    search_ignore_iou: float
    iou_rule: str
    one_box: bool
    repeated_scenes: str

    def labeled(self, source_ids: Sequence[int]) -> set[int]:
        """The person ids that count as labeled, given the dataset's own number of each."""
        return {person for person, own in enumerate(source_ids) if own >= self.labeled_from}


SCENES = Protocol(
    matching="greedy",
    interpolated=True,
    detection_min_score=0.0,
    min_height=40.0,
    detection_ignore_iou=0.3,
    labeled_from=0,
    search_min_score=0.0,
    search_ignore_iou=0.5,
    iou_rule="half",
    one_box=False,
    repeated_scenes="twice",
)
"""Ours: ignored and very small people are neutral; every detection the model reports counts."""

PUBLISHED = Protocol(
    matching="mutual_best",
    interpolated=False,
    detection_min_score=0.01,
    min_height=0.0,
    detection_ignore_iou=math.inf,
    labeled_from=1,
    search_min_score=0.5,
    search_ignore_iou=math.inf,
    iou_rule="cuhk",
    one_box=True,
    repeated_scenes="twice",
)
"""Those of the code of OIM and NAE, which the papers' figures on CUHK-SYSU and PRW come from.

It knows nothing of ignored people: a detection on one is wrong. Its labeled people are those of
number 1 and up, which leaves out CUHK-SYSU's person 0.
"""

SEQNET = replace(PUBLISHED, labeled_from=0, repeated_scenes="once")
"""Those of the code of SeqNet and its successors: other figures where a gallery repeats a scene."""

PROTOCOLS = {"scenes": SCENES, "published": PUBLISHED, "seqnet": SEQNET}
