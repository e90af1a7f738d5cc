"""A client that openapi-python-client makes of /openapi.json can do what people do."""

import importlib
import io
import json
import subprocess
import sys
from pathlib import Path

import pytest

from api_tests.test_fuzz_bodies import KINDS
from service.app import openapi_document
from service.system.schemas import KeyRequest
from service.tests.serving import served
from service.tests.stub import crop, picture

RED = ("red", (40, 40, 80, 160))
GENERATOR = Path(sys.executable).parent / "openapi-python-client"


def json_bodies():
    """(path, method, description) of every body of a request that is JSON."""
    document = openapi_document()
    for path, ways in document["paths"].items():
        for method, operation in ways.items():
            content = operation.get("requestBody", {}).get("content", {})
            for media, about in content.items():
                if "json" in media or "ndjson" in media:
                    yield path, method, about


def test_every_json_body_has_an_example_that_is_taken():
    models = {kind.__name__: kind for kind in (*KINDS, KeyRequest)}
    seen = set()
    for path, method, about in json_bodies():
        kind = models[about["schema"]["$ref"].rpartition("/")[2]]
        kind.model_validate_json(json.dumps(about["example"]))
        seen.add((path, method))
    assert {("/search", "post"), ("/keys", "post"), ("/gallery/imports", "post")} <= seen
    assert len(seen) >= 9


def test_operations_have_short_names_of_their_own():
    document = openapi_document()
    operations = [one for ways in document["paths"].values() for one in ways.values()]
    names = [one["operationId"] for one in operations]

    assert len(names) == len(set(names))
    assert {"search", "search_image", "add_images", "detect", "livez"} <= set(names)
    assert all(name.isidentifier() and len(name) <= 32 for name in names)
    assert {tag for one in operations for tag in one["tags"]} == {
        tag["name"] for tag in document["tags"]
    }


def test_routes_take_bodies_of_one_kind_and_files_are_known_as_such():
    for path, ways in openapi_document()["paths"].items():
        for operation in ways.values():
            kinds = set(operation.get("requestBody", {}).get("content", {}))
            assert not ("multipart/form-data" in kinds and len(kinds) > 1), path
    text = json.dumps(openapi_document())
    binary = '"format": "binary", "contentMediaType": "application/octet-stream"'
    assert text.count('"contentMediaType": "application/octet-stream"') == text.count(binary) > 4


@pytest.fixture(scope="module")
def client_code(tmp_path_factory):
    folder = tmp_path_factory.mktemp("client")
    (folder / "api.json").write_text(json.dumps(openapi_document()))
    (folder / "config.json").write_text(json.dumps({"post_hooks": []}))
    arguments = ["--path", folder / "api.json", "--config", folder / "config.json"]
    arguments += ["--output-path", folder / "made_client", "--meta", "none"]
    made = subprocess.run([GENERATOR, "generate", *arguments], capture_output=True, text=True)
    told = made.stdout + made.stderr
    assert made.returncode == 0, told
    assert "will not be generated" not in told, told
    sys.path.insert(0, str(folder))
    yield "made_client"
    sys.path.remove(str(folder))


@pytest.mark.slow
def test_a_generated_client_adds_pictures_and_searches(client_code, tmp_path):
    made = importlib.import_module(client_code)
    models = importlib.import_module(f"{client_code}.models")
    types = importlib.import_module(f"{client_code}.types")

    def file(content):
        return types.File(payload=io.BytesIO(content), file_name="a.jpg", mime_type="image/jpeg")

    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures" / "a.jpg").write_bytes(picture(("blue", (40, 40, 80, 160))))
    with (
        served(tmp_path / "data", import_dir=tmp_path / "pictures") as service,
        made.Client(base_url=f"http://127.0.0.1:{service.port}", timeout=60) as client,
    ):

        def call(tag, name, **arguments):
            module = importlib.import_module(f"{client_code}.api.{tag}.{name}")
            answer = module.sync_detailed(client=client, **arguments)
            assert answer.status_code < 300, answer.content
            return answer.parsed

        image = call("images", "add_images", body=models.AddImagesBody(image=file(picture(RED))))
        two = [file(picture(RED, seed=seed, file_format="PNG")) for seed in (1, 2)]
        added = call("images", "add_images", body=models.AddImagesBody(image=two))
        assert len(added.results) == 2
        found = call("search", "detect", body=models.DetectBody(image=file(picture(RED))))
        assert len(found.detections) == 1
        found = call("search", "search_image", body=models.SearchImageBody(image=file(crop("red"))))
        assert found.hits[0].image.id in {image.id, *(one.id for one in added.results)}
        query = models.Query(detection_id=image.detections[0].id)
        found = call("search", "search", body=models.SearchRequest(queries=[query], limit=5))
        assert image.id not in {hit.image.id for hit in found.hits}
        assert len(found.hits) == 2
        lines = types.File(payload=io.BytesIO(b'{"file":"a.jpg"}\n'))
        job = call("images", "import_images", body=lines)
        assert job.state == "queued"
