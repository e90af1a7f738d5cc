"""Every kind of job that the service can run."""

from collections.abc import Mapping

from service.generations.jobs import change_model
from service.images.jobs import add_from_directory, add_uploads
from service.labels.evaluations import evaluate_gallery
from service.running.jobs import JobKind
from service.upkeep.jobs import compact, finish_erasure, make_snapshot

KINDS: Mapping[str, JobKind] = {
    "ingest": add_uploads,
    "import": add_from_directory,
    "evaluate": evaluate_gallery,
    "snapshot": make_snapshot,
    "erase": finish_erasure,
    "compact": compact,
    "reindex": change_model,
}
