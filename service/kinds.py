"""Every kind of job that the service runs, and what each of them uses."""

from collections.abc import Mapping
from functools import partial

from service.generations.jobs import change_model
from service.images.jobs import add_from_directory, add_uploads
from service.labels.evaluations import evaluate_gallery
from service.running.jobs import JobKind
from service.running.parts import Parts
from service.upkeep.jobs import compact, finish_erasure, make_snapshot


def job_kinds(parts: Parts) -> Mapping[str, JobKind]:
    """The work of each kind, by name."""
    return {
        "ingest": partial(add_uploads, parts),
        "import": partial(add_from_directory, parts),
        "evaluate": partial(evaluate_gallery, parts),
        "snapshot": partial(make_snapshot, parts.gallery),
        "erase": partial(finish_erasure, parts.gallery),
        "compact": partial(compact, parts.gallery),
        "reindex": partial(change_model, parts),
    }
