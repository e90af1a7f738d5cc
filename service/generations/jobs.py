"""Changing the model of the gallery, as a job."""

from dataclasses import asdict
from typing import Any

from indexer.evaluation.comparison import Comparison
from indexer.ingest.reindex import Progress, reindex
from indexer.records import GalleryModel, Generation
from service.running.detectors import warm_up
from service.running.jobs import JobContext, JobStoppedError
from service.running.parts import Parts


def change_model(parts: Parts, context: JobContext) -> dict[str, Any]:
    """Index all images with a model, beside the one that answers, and let it answer.

    Arguments: `model`, the fields of a GalleryModel; `activate`, whether it is to answer; and
    `min_map_ratio`, or null, as reindex takes it. One image at a time, behind all searches.
    When the job is cancelled, the unfinished generation stays, and gets no new images.
    """
    model = GalleryModel(**context.arguments["model"])
    told = context.result
    if parts.gallery.model.fingerprint != model.fingerprint:  # else a death came after the swap
        detector = parts.detectors.of(model)  # before anything depends on it
        context.infer(lambda: warm_up(detector))

        def tell(progress: Progress) -> None:
            done = progress.done + progress.failed
            context.progress(done, max(done, progress.total), failed=progress.failed)

        def compared(comparison: Comparison) -> None:
            told["evaluation"] = asdict(comparison)
            had, total = parts.gallery.generations.scenes_in(generation_of(parts, model).id)
            context.progress(had, total, result=told)

        reindex(
            parts.gallery,
            model,
            parts.detectors.of,
            activate=context.arguments["activate"],
            min_map_ratio=context.arguments.get("min_map_ratio"),
            skip_unreadable=context.arguments.get("skip_unreadable", False),
            run=context.infer_and_store,
            on_progress=tell,
            on_failure=context.failed_item,
            on_comparison=compared,
            gives_up=lambda error: not isinstance(error, JobStoppedError) or error.cancelled,
        )
    generation = generation_of(parts, model)
    return told | {"generation": generation.id, "model": model.name, "state": generation.state}


def generation_of(parts: Parts, model: GalleryModel) -> Generation:
    """The generation of a model that has one."""
    (generation,) = (
        one.generation
        for one in parts.gallery.generations.all()
        if one.generation.model.fingerprint == model.fingerprint
    )
    return generation
