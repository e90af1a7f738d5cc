"""Whatever is asked, the answer is as the OpenAPI document describes it, and never a fault.

Schemathesis makes the requests from the document: valid, almost valid and senseless ones. Some
of their ids and pictures are replaced by real ones, so that they get past the door.
"""

import json

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import seed as seeded
from hypothesis import strategies as st
from schemathesis.checks import not_a_server_error
from schemathesis.generation import GenerationMode
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from service.tests.serving import Client, scene, served

pytestmark = [pytest.mark.slow, pytest.mark.timeout(7200)]

SECRETS = {"reader": "search-secret-0123456789", "boss": "admin-secret-0123456789"}
KEYS = f"reader:search:{SECRETS['reader']},boss:admin:{SECRETS['boss']}"
CHECKED = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
]


@schemathesis.serializer("application/jsonl", "application/x-ndjson")
def json_lines(context, value):
    return json.dumps(value).encode()


def asked(port, case, session, secret):
    headers = {} if secret is None else {"Authorization": f"Bearer {secret}"}
    return case.call(
        base_url=f"http://127.0.0.1:{port}", session=session, headers=headers, timeout=30
    )


def check_answer(case, answer):
    case.validate_response(answer, checks=CHECKED)
    if answer.status_code >= 400 and case.path != "/readyz":
        assert answer.headers["content-type"] == ["application/problem+json"]
        told = answer.json()
        assert told["status"] == answer.status_code
        assert told["type"] == "urn:person-search:problem:" + told["code"].replace("_", "-")
        if "idempotency-replayed" not in answer.headers:  # that is the first request's answer
            assert told["request_id"] == answer.headers["x-request-id"][0]


@pytest.mark.parametrize("cases", [750, pytest.param(100_000, marks=pytest.mark.soak)])
@pytest.mark.parametrize("caller", ["without keys", "nobody", "reader", "boss"])
def test_no_request_makes_a_fault_and_every_answer_is_as_described(tmp_path, caller, cases, seed):
    keys = {} if caller == "without keys" else {"api_keys": KEYS}
    secret = SECRETS.get(caller)
    statuses, wrong = {}, {}
    photos = tmp_path / "photos"
    photos.mkdir()
    with (
        served(tmp_path / "data", import_dir=photos, **keys) as service,
        requests.Session() as session,
    ):
        bearer = {"Authorization": f"Bearer {SECRETS['boss']}"} if keys else {}
        with Client(service.port, headers=bearer) as client:
            images = [client.post_form("/gallery/images", scene(n))[1] for n in range(40)]
            job = client.post_form("/gallery/images?wait=false", scene(40))[1]["job_id"]
            document = client.get("/openapi.json")[1]
        real = {
            "image_id": [image["id"] for image in images],
            "detection_id": [one["id"] for image in images for one in image["detections"]],
            "job_id": [job],
        }
        schema = schemathesis.openapi.from_dict(document)
        operations = [result.ok() for result in schema.get_all_operations()]
        share = cases // (3 * len(operations))  # some routes take nothing, and need few
        for operation in operations:

            @seeded(seed)
            @settings(
                max_examples=share,
                database=None,
                deadline=None,
                phases=[Phase.generate],
                suppress_health_check=list(HealthCheck),
            )
            @given(case=strategy_of(operation), data=st.data())
            def ask(case, data):
                for name, ids in real.items():
                    if name in (case.path_parameters or {}) and data.draw(st.booleans()):
                        case.path_parameters[name] = data.draw(st.sampled_from(ids))
                if (
                    isinstance(case.body, dict)
                    and "image" in case.body
                    and data.draw(st.booleans())
                ):
                    kept = [] if data.draw(st.booleans()) else ["metadata", "request"]
                    case.body = {name: case.body[name] for name in kept if name in case.body}
                    case.body["image"] = scene(data.draw(st.integers(0, 100)))
                answer = asked(service.port, case, session, secret)
                statuses[answer.status_code] = statuses.get(answer.status_code, 0) + 1
                check_answer(case, answer)

            try:
                ask()
            except (Exception, BaseExceptionGroup) as error:
                wrong[operation.label] = error
        assert service.process.is_alive()
    print(f"{sum(statuses.values())} cases: {statuses}")  # noqa: T201
    assert not wrong, "\n".join(
        f"{label}: {error} {getattr(error, 'exceptions', '')}" for label, error in wrong.items()
    )
    assert sum(statuses.values()) >= cases / 4
    if caller == "nobody":
        assert set(statuses) <= {200, 401, 404, 400, 405}


def strategy_of(operation):
    """Cases as described, and cases that are not."""
    modes = [GenerationMode.POSITIVE, GenerationMode.NEGATIVE]
    return st.one_of([operation.as_strategy(generation_mode=mode) for mode in modes])
