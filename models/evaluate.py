"""python -m models.evaluate: how well a model finds people, and finds them again, in a dataset."""

if __name__ == "__main__":
    from models.command import run

    run("models.evaluate")

import argparse
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from models.boxes import clip_boxes
from models.command import command
from models.datasets.read import read_dataset
from models.datasets.scene import Query, Scene, SceneDataset
from models.detections import Detections
from models.detector import DEFAULT_MODEL, PROVIDERS, OnnxDetector
from models.evaluation.detection import evaluate_detection
from models.evaluation.found import Found as Found  # what find and score exchange
from models.evaluation.protocols import PROTOCOLS
from models.evaluation.search import IOU_RULES, TOP_K, answers, evaluate_search
from models.reranking.cbgm import Context

CBGM = (10, 3)
"""k1 and k2 of context graph matching, as published for CUHK-SYSU; for PRW they are 30 and 4."""


class SceneModel(Protocol):
    """The part of a detector that is evaluated; a network in training has it as well."""

    def detect(self, images: Sequence[NDArray[np.uint8]]) -> list[Detections]: ...

    def embed(
        self, image: NDArray[np.uint8], boxes: NDArray[np.floating]
    ) -> NDArray[np.float32]: ...


def find(
    detector: SceneModel,
    dataset: SceneDataset,
    *,
    queries: Sequence[Query] | None = None,
    gt_boxes: bool = False,
    reidentifier: SceneModel | None = None,
    progress: Callable[[Iterable[Scene]], Iterable[Scene]] = iter,
) -> Found:
    """Run a detector over a dataset: its scenes and its queries.

    Args:
        queries: Describe these instead of the dataset's own.
        gt_boxes: Describe the annotated boxes instead of detecting.
        reidentifier: Describes the boxes that the detector finds, and the queries.
        progress: Wraps the scenes as they are worked through, as tqdm does.
    """
    describer = reidentifier or detector
    asked: dict[int, dict[bytes, NDArray[np.float32]]] = {}
    for query in dataset.queries if queries is None else queries:
        asked.setdefault(query.scene, {})[query.box.tobytes()] = query.box
    detections: list[Detections] = []
    query_scenes: list[int] = []
    query_boxes: list[NDArray[np.float32]] = []
    query_embeddings: list[NDArray[np.float32]] = []
    for index, scene in enumerate(progress(dataset.scenes)):
        pixels = scene.read()
        if gt_boxes:
            boxes = _inside(scene, scene.boxes[~scene.ignore])
            scores = np.ones(len(boxes), np.float32)
            detections.append(Detections(boxes, scores, describer.embed(pixels, boxes)))
        else:
            (found,) = detector.detect([pixels])
            if reidentifier is not None:
                found = replace(found, embeddings=reidentifier.embed(pixels, found.boxes))
            detections.append(found)
        if index in asked:
            shown = np.stack(list(asked[index].values()))
            query_scenes += [index] * len(shown)
            query_boxes += list(shown)
            query_embeddings += list(describer.embed(pixels, _inside(scene, shown)))
    return Found(
        scenes=tuple(scene.name for scene in dataset.scenes),
        detections=tuple(detections),
        query_scenes=np.array(query_scenes, np.int64),
        query_boxes=np.array(query_boxes, np.float32).reshape(-1, 4),
        query_embeddings=np.array(query_embeddings, np.float32),
        gt_boxes=gt_boxes,
    )


def score(
    found: Found,
    dataset: SceneDataset,
    *,
    class_weighted: bool = True,
    iou_rule: str | None = None,
    protocol: str | None = None,
    cbgm: tuple[int, int] | None = None,
    labeled_only: bool = False,
    per_query: bool = False,
) -> dict[str, Any]:
    """Score what was found in a dataset's scenes.

    Args:
        dataset: The scenes that were searched; its queries may be others than in another call.
        class_weighted: Rank by score × cosine similarity, instead of cosine similarity alone.
        iou_rule: A name of models.evaluation.search.IOU_RULES; None is the protocol's.
        protocol: A name of models.evaluation.protocols.PROTOCOLS; None is the dataset's.
        cbgm: k1 and k2 of context graph matching; None goes without.
        labeled_only: Score detection on labeled people only.
        per_query: Also tell each query's average precision.

    Returns:
        "detection": recall and ap, or None where nothing was to be detected;
        "search": map, top_1, top_5, top_10, with `per_query` also ap, a list; or None where the
        dataset asks no queries;
        "data": what was evaluated, and how.

    Raises:
        DatasetError: The dataset has other scenes, a query was not described, or one cannot be
            answered.
    """
    found.check(dataset)
    name = dataset.protocol if protocol is None else protocol
    rules = PROTOCOLS[name]
    if iou_rule is not None:
        rules = replace(rules, iou_rule=iou_rule)
    detection = (
        None
        if found.gt_boxes
        else evaluate_detection(
            dataset.scenes,
            found.detections,
            protocol=rules,
            only=rules.labeled(dataset.source_ids) if labeled_only else None,
        )
    )
    search = evaluate_search(
        dataset,
        found.detections,
        found.embeddings_of(dataset.queries),
        class_weighted=class_weighted,
        protocol=rules,
        context=cbgm
        and Context(
            [found.company(query, min_score=rules.search_min_score) for query in dataset.queries],
            hits=cbgm[0],
            most_people=cbgm[1],
        ),
    )
    return {
        "detection": detection and {"recall": detection.recall, "ap": detection.ap},
        "search": search
        and {"map": search.map}
        | {f"top_{k}": getattr(search, f"top_{k}") for k in TOP_K}
        | ({"ap": search.average_precisions.tolist()} if per_query else {}),
        "data": {
            "name": dataset.name,
            "licence": dataset.licence,
            "scenes": len(dataset.scenes),
            "persons": len(dataset.person_ids),
            "queries": len(dataset.queries),
            "gt_boxes": found.gt_boxes,
            "class_weighted": class_weighted,
            "iou_rule": rules.iou_rule,
            "protocol": name,
            "cbgm": cbgm and list(cbgm),
            "labeled_only": labeled_only,
        },
    }


def evaluate(
    detector: SceneModel,
    dataset: SceneDataset,
    *,
    gt_boxes: bool = False,
    class_weighted: bool = True,
    iou_rule: str | None = None,
    progress: Callable[[Iterable[Scene]], Iterable[Scene]] = iter,
) -> dict[str, Any]:
    """Run a detector over a dataset and score what it finds: `find`, then `score`."""
    found = find(detector, dataset, gt_boxes=gt_boxes, progress=progress)
    return score(found, dataset, class_weighted=class_weighted, iou_rule=iou_rule)


def _inside(scene: Scene, boxes: NDArray[np.float32]) -> NDArray[np.float32]:
    return clip_boxes(boxes, height=scene.height, width=scene.width)


@command
def main(arguments: Sequence[str] | None = None) -> None:
    options = _options(arguments)
    datasets = _read(options)
    found = Found.load(options.found) if options.found else _find(options, datasets)
    if options.save_found:
        found.save(options.save_found)
    scored = [
        score(
            found,
            dataset,
            class_weighted=not options.no_cws,
            iou_rule=options.iou_rule,
            protocol=options.protocol,
            cbgm=options.cbgm,
            labeled_only=options.labeled_only,
            per_query=options.json is not None,
        )
        for dataset in datasets
    ]
    results = scored[0] | found.models
    results["data"]["cross_camera"] = options.cross_camera
    if options.gallery_size:
        results["searches"] = {
            str(size): one["search"] for size, one in zip(options.gallery_size, scored, strict=True)
        }
    print(table(results))
    if options.json:
        options.json.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m models.evaluate",
        description="Score a model on a dataset: detection AP, search mAP and top-k accuracy.",
    )
    parser.add_argument(
        "--data", type=Path, required=True, help="annotated scenes, CUHK-SYSU, PRW or COCO JSON"
    )
    parser.add_argument(
        "--split", choices=("test", "train"), default="test", help="of CUHK-SYSU or PRW"
    )
    parser.add_argument(
        "--gallery-size", type=int, nargs="+", metavar="N",
        help="CUHK-SYSU: search among so many scenes; several make a row each; -1 is all of them",
    )  # fmt: skip
    parser.add_argument(
        "--cross-camera", action="store_true", help="PRW: search the other cameras only"
    )
    parser.add_argument("--limit", type=int, metavar="N", help="use the first N scenes only")
    parser.add_argument("--model", "--detector", type=Path, metavar="DIR", help="model directory")
    parser.add_argument(
        "--reidentifier", type=Path, metavar="DIR",
        help="describe with this model what the other one finds",
    )  # fmt: skip
    parser.add_argument("--device", choices=sorted(PROVIDERS), default="cpu")
    parser.add_argument(
        "--gt-boxes", action="store_true", help="describe the annotated boxes, detect nothing"
    )
    parser.add_argument(
        "--save-found", type=Path, metavar="FILE", help="keep what was found, to score it again"
    )
    parser.add_argument(
        "--found", type=Path, metavar="FILE", help="score what was kept; no model runs"
    )
    parser.add_argument(
        "--protocol", choices=sorted(PROTOCOLS), help="whose scoring; by default the dataset's"
    )
    parser.add_argument(
        "--iou-rule", choices=sorted(IOU_RULES),
        help="what a right box is; by default the protocol's rule",
    )  # fmt: skip
    parser.add_argument(
        "--no-cws", action="store_true", help="rank by cosine similarity, not weighted by score"
    )
    parser.add_argument(
        "--cbgm", type=int, nargs="*", metavar="K",
        help=f"match the context of the best hits; k1 and k2, by default {CBGM[0]} {CBGM[1]}",
    )  # fmt: skip
    parser.add_argument(
        "--labeled-only", action="store_true", help="score detection on labeled people only"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the results here")
    options = parser.parse_args(arguments)
    if options.limit is not None and options.limit < 1:
        parser.error(f"argument --limit: expected 1 or more, got {options.limit}")
    if options.cbgm is not None:
        options.cbgm = tuple(options.cbgm) or CBGM
        if len(options.cbgm) != 2 or min(options.cbgm) < 1:
            parser.error("argument --cbgm: expected nothing, or k1 and k2 of 1 or more")
    for file in (options.json, options.save_found):
        if file and not file.parent.is_dir():
            parser.error(f"{file}: there is no directory {file.parent}")
    runs = options.model or options.reidentifier or options.gt_boxes or options.save_found
    if options.found and runs:
        parser.error(
            "argument --found: no model runs, so not allowed with --model, --reidentifier, "
            "--gt-boxes or --save-found"
        )
    return options


def _read(options: argparse.Namespace) -> list[SceneDataset]:
    """The dataset; several times, with the queries of each gallery size, if there are several."""
    read = partial(
        read_dataset, options.data, split=options.split, cross_camera=options.cross_camera
    )
    sizes = options.gallery_size
    datasets = [read(gallery_size=size) for size in sizes] if sizes else [read()]
    if options.limit is not None:
        datasets = [dataset.first(options.limit) for dataset in datasets]
    for dataset in datasets:
        answers(dataset)  # one that cannot be answered is told before hours of detection
    return datasets


def _find(options: argparse.Namespace, datasets: Sequence[SceneDataset]) -> Found:
    roles = {"model": options.model or DEFAULT_MODEL, "reidentifier": options.reidentifier}
    loaded = {
        role: OnnxDetector(path, device=options.device) for role, path in roles.items() if path
    }
    found = find(
        loaded["model"],
        datasets[0],
        queries=[query for dataset in datasets for query in dataset.queries],
        gt_boxes=options.gt_boxes,
        reidentifier=loaded.get("reidentifier"),
        progress=partial(tqdm, desc="scenes", unit="scene"),
    )
    cards = {role: detector.card for role, detector in loaded.items()}
    return replace(
        found,
        models={
            role: {"name": card.name, "fingerprint": card.fingerprint}
            for role, card in cards.items()
        },
    )


def table(results: dict[str, Any]) -> str:
    """The results for reading, in percent."""
    data = results["data"]
    how = [f"protocol {data['protocol']}", f"IoU rule {data['iou_rule']}"]
    how.append("class-weighted" if data["class_weighted"] else "cosine similarity")
    if data["cbgm"]:
        how.append(f"CBGM {data['cbgm'][0]} {data['cbgm'][1]}")
    if data.get("cross_camera"):
        how.append("other cameras only")
    rows: list[tuple[str, str]] = [
        (role, f"{results[role]['name']} ({results[role]['fingerprint'][:12]})")
        for role in ("model", "reidentifier")
        if role in results
    ]
    rows.append(
        (
            "data",
            f"{data['name']}: {data['scenes']} scenes, {data['persons']} persons, "
            f"{data['queries']} queries",
        )
    )
    rows.append(("scored", ", ".join(how)))
    rows.append(("detection", _percent(results["detection"], ("recall", "ap"))))
    searches = {
        f"search {'all' if size == '-1' else size}": one
        for size, one in results.get("searches", {}).items()
    } or {"search": results["search"]}
    names = ("map", *(f"top_{k}" for k in TOP_K))
    rows += [(title, _percent(one, names)) for title, one in searches.items()]
    width = max(len(title) for title, _ in rows)
    return "\n".join(f"{title:<{width}}  {text}" for title, text in rows)


def _percent(values: dict[str, Any] | None, names: Sequence[str]) -> str:
    if values is None:
        return "–"
    return "   ".join(f"{name} {100 * values[name]:5.1f}" for name in names)
