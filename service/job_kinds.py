"""Every kind of job that the service can run."""

from collections.abc import Mapping

from service.evaluations import evaluate_gallery
from service.import_jobs import add_from_directory, add_uploads
from service.jobs import JobKind
from service.keep_jobs import compact, finish_erasure, make_snapshot
from service.reindex_jobs import change_model

KINDS: Mapping[str, JobKind] = {
    "ingest": add_uploads,
    "import": add_from_directory,
    "evaluate": evaluate_gallery,
    "snapshot": make_snapshot,
    "erase": finish_erasure,
    "compact": compact,
    "reindex": change_model,
}
