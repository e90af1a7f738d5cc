"""Bodies that nobody thought of: each is answered as a problem, soon, whatever they are."""

import os
import time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import seed as seeded
from hypothesis import strategies as st

from service.http.bodies import parse_json
from service.http.errors import RequestError
from service.images.schemas import DeleteImages, ImageMetadata, ImportLine, MetadataPatch
from service.labels.schemas import CalibrationRequest, EvaluationRequest, Label
from service.search.schemas import SearchRequest
from service.upkeep.schemas import ErasureRequest

KINDS = [SearchRequest, ErasureRequest, EvaluationRequest, CalibrationRequest, Label,
         DeleteImages, MetadataPatch, ImageMetadata, ImportLine]  # fmt: skip
WORDS = sorted({name for kind in KINDS for name in kind.model_fields} | {"from", "to", "in", "x1"})
ATOMS = st.sampled_from(
    [b"null", b"true", b"NaN", b"-Infinity", b"1e400", b"-0", b"9" * 5000, b"0." + b"1" * 5000,
     b'"\\ud800"', b'"\xff"', b'"2026-11-20T08:15:00Z"', b'"0001-01-01T00:00:00+14:00"', b'""']
) | st.integers().map(lambda n: b"%d" % n)  # fmt: skip
NAMES = st.sampled_from([word.encode() for word in WORDS])
DOCUMENTS = st.recursive(
    ATOMS,
    lambda inner: (
        st.lists(inner, max_size=5).map(lambda items: b"[" + b",".join(items) + b"]")
        | st.lists(st.tuples(NAMES, inner), max_size=6).map(
            lambda pairs: b"{" + b",".join(b'"%s":%s' % pair for pair in pairs) + b"}"
        )
        | st.tuples(inner, st.integers(1, 3000)).map(
            lambda one: b"[" + b",".join([one[0]] * min(one[1], 1 + 2**19 // len(one[0]))) + b"]"
        )
    ),
    max_leaves=12,
)


def check(kind, body):
    began = time.process_time()
    try:
        parse_json(kind, body)
    except RequestError as error:
        assert len(error.errors) <= 20
        assert len(str(error)) < 1000
    assert time.process_time() - began < 5


@pytest.mark.parametrize(
    "seconds", [5, pytest.param(600, marks=[pytest.mark.soak, pytest.mark.timeout(3600)])]
)
def test_documents_are_taken_or_refused_as_problems_and_soon(seconds, seed):
    ends = time.monotonic() + float(os.environ.get("FUZZ_SECONDS", seconds))
    rounds = cases = 0
    while not rounds or time.monotonic() < ends:

        @seeded(seed + rounds)
        @settings(
            max_examples=100,
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
        )
        @given(st.sampled_from(KINDS), DOCUMENTS | st.binary(max_size=200))
        def ask(kind, body):
            nonlocal cases
            cases += 1
            check(kind, body)

        ask()
        rounds += 1
    print(f"{cases} bodies")  # noqa: T201
