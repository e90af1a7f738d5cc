import json

import indexer.errors
import models.errors
import service.http.errors
from models.errors import PersonSearchError
from service.http.errors import PROBLEMS, RequestError, problem, problem_response


def kinds(kind):
    for each in kind.__subclasses__():
        yield each
        yield from kinds(each)


def test_every_kind_of_error_has_its_problem():
    assert indexer.errors and models.errors and service.http.errors

    # Training has errors of its own, which no request can meet.
    found = {
        kind.code
        for kind in kinds(PersonSearchError)
        if not kind.__module__.startswith("service.train")
    }
    assert found <= set(PROBLEMS)


def test_every_problem_has_a_fitting_status_and_says_what_to_do():
    for code, kind in PROBLEMS.items():
        assert 400 <= kind.status < 600, code
        assert kind.title, code
        assert kind.help.endswith("."), code
        soon_over = code in ("idempotency_in_progress", "snapshot_busy", "head_timeout")
        assert kind.retryable <= (kind.status >= 500 or soon_over), code


def test_a_problem_tells_what_a_caller_can_use():
    error = RequestError(
        "validation_failed", "x", limits={"max": 1}, errors=[{"pointer": "/a", "code": "b"}]
    )

    assert problem(error, instance="/search", request_id="req_1") == {
        "type": "urn:person-search:problem:validation-failed",
        "title": "Request is not valid",
        "status": 422,
        "detail": "x",
        "instance": "/search",
        "code": "validation_failed",
        "retryable": False,
        "request_id": "req_1",
        "errors": [{"pointer": "/a", "code": "b"}],
        "limits": {"max": 1},
    }


def test_faults_of_the_machine_are_not_told():
    error = indexer.errors.GalleryDamagedError("/home/someone/data is damaged")

    assert "/home" not in json.dumps(problem(error, instance="/", request_id=""))


def test_text_that_utf8_cannot_hold_is_no_trouble():
    content = problem(RequestError("not_found", "\ud800"), instance="/\udfff", request_id="")

    assert json.loads(problem_response(content).body)["detail"] == "?"


def test_what_may_be_repeated_says_when():
    for code, expected in (("overloaded", "1"), ("not_found", None)):
        content = problem(RequestError(code, "x"), instance="/", request_id="")
        assert problem_response(content).headers.get("retry-after") == expected
