"""Every kind of job that the service can run."""

from collections.abc import Mapping

from service.evaluations import evaluate_gallery
from service.import_jobs import add_from_directory, add_uploads
from service.jobs import JobKind

KINDS: Mapping[str, JobKind] = {
    "ingest": add_uploads,
    "import": add_from_directory,
    "evaluate": evaluate_gallery,
}
