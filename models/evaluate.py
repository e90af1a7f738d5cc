"""python -m models.evaluate: how well a model finds people, and finds them again, in a dataset."""

import argparse
import json
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from models.boxes import clip_boxes
from models.datasets.scene import Scene, SceneDataset
from models.datasets.scenes_json import read_scenes_json
from models.detections import Detections
from models.detector import DEFAULT_MODEL, OnnxDetector
from models.errors import PersonSearchError
from models.evaluation.detection import evaluate_detection
from models.evaluation.search import IOU_RULES, TOP_K, evaluate_search


class SceneModel(Protocol):
    """The part of a detector that is evaluated; a network in training has it as well."""

    def detect(self, images: Sequence[NDArray[np.uint8]]) -> list[Detections]: ...

    def embed(
        self, image: NDArray[np.uint8], boxes: NDArray[np.floating]
    ) -> NDArray[np.float32]: ...


def evaluate(
    detector: SceneModel,
    dataset: SceneDataset,
    *,
    gt_boxes: bool = False,
    class_weighted: bool = True,
    iou_rule: str = "half",
    progress: Callable[[Iterable[Scene]], Iterable[Scene]] = iter,
) -> dict[str, Any]:
    """Run a detector over a dataset and score what it finds.

    Args:
        gt_boxes: Describe the annotated boxes instead of detecting: search alone is scored.
        class_weighted: Rank by score × cosine similarity, instead of cosine similarity alone.
        iou_rule: A name of models.evaluation.search.IOU_RULES.
        progress: Wraps the scenes as they are worked through, as tqdm does.

    Returns:
        "detection": recall and ap, or None where nothing was to be detected;
        "search": map, top_1, top_5, top_10, or None where the dataset asks no queries;
        "data": what was evaluated.
    """
    detections: list[Detections] = []
    queries: dict[int, NDArray[np.float32]] = {}
    for index, scene in enumerate(progress(dataset.scenes)):
        pixels = scene.read()
        if gt_boxes:
            boxes = _inside(scene, scene.boxes[~scene.ignore])
            scores = np.ones(len(boxes), np.float32)
            detections.append(Detections(boxes, scores, detector.embed(pixels, boxes)))
        else:
            detections += detector.detect([pixels])
        numbers = [n for n, query in enumerate(dataset.queries) if query.scene == index]
        if numbers:
            asked = np.stack([dataset.queries[number].box for number in numbers])
            queries.update(zip(numbers, detector.embed(pixels, _inside(scene, asked)), strict=True))
    detection = None if gt_boxes else evaluate_detection(dataset.scenes, detections)
    search = evaluate_search(
        dataset,
        detections,
        np.array([queries[number] for number in range(len(queries))], dtype=np.float32),
        class_weighted=class_weighted,
        iou_rule=IOU_RULES[iou_rule],
    )
    return {
        "detection": detection and {"recall": detection.recall, "ap": detection.ap},
        "search": search
        and {"map": search.map} | {f"top_{k}": getattr(search, f"top_{k}") for k in TOP_K},
        "data": {
            "name": dataset.name,
            "licence": dataset.licence,
            "scenes": len(dataset.scenes),
            "persons": len(dataset.person_ids),
            "queries": len(dataset.queries),
            "gt_boxes": gt_boxes,
            "class_weighted": class_weighted,
            "iou_rule": iou_rule,
        },
    }


def _inside(scene: Scene, boxes: NDArray[np.float32]) -> NDArray[np.float32]:
    return clip_boxes(boxes, height=scene.height, width=scene.width)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m models.evaluate",
        description="Score a model on a dataset: detection AP, search mAP and top-k accuracy.",
    )
    parser.add_argument(
        "--data", type=Path, required=True, help="directory of annotations.json and images/"
    )
    parser.add_argument("--model", type=Path, default=DEFAULT_MODEL, help="model directory")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the results here")
    parser.add_argument(
        "--gt-boxes", action="store_true", help="describe the annotated boxes, detect nothing"
    )
    parser.add_argument(
        "--no-cws", action="store_true", help="rank by cosine similarity, not weighted by score"
    )
    parser.add_argument(
        "--iou-rule", choices=sorted(IOU_RULES), default="half", help="what a right box is"
    )
    parser.add_argument("--limit", type=int, metavar="N", help="use the first N scenes only")
    options = parser.parse_args(arguments)
    if options.limit is not None and options.limit < 1:
        parser.error(f"argument --limit: expected 1 or more, got {options.limit}")
    try:
        dataset = read_scenes_json(options.data)
        if options.limit is not None:
            dataset = dataset.first(options.limit)
        detector = OnnxDetector(options.model)
        results = evaluate(
            detector,
            dataset,
            gt_boxes=options.gt_boxes,
            class_weighted=not options.no_cws,
            iou_rule=options.iou_rule,
            progress=partial(tqdm, desc="scenes", unit="scene"),
        )
    except PersonSearchError as error:
        raise SystemExit(f"error: {error}") from error
    card = detector.card
    results["model"] = {"name": card.name, "fingerprint": card.fingerprint}
    print(table(results))
    if options.json:
        options.json.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")


def table(results: dict[str, Any]) -> str:
    """The results for reading, in percent."""
    data, model = results["data"], results["model"]
    lines = [
        f"model      {model['name']} ({model['fingerprint'][:12]})",
        f"data       {data['name']}: {data['scenes']} scenes, {data['persons']} persons, "
        f"{data['queries']} queries",
    ]
    for part in ("detection", "search"):
        if results[part] is None:
            lines.append(f"{part:<10} –")
        else:
            values = (f"{name} {100 * value:.1f}" for name, value in results[part].items())
            lines.append(f"{part:<10} {'   '.join(values)}")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
