"""Inputs that coverage leads to: python -m api_tests.fuzz TARGET SECONDS FOLDER

Atheris changes what it has as long as that reaches further branches of the code that reads it. An
input must be read, or refused by an error of ours, within 5 s of a core. The folder gets what was
found to reach further, `report.json`, and an input that fails, as `crash-…`. (`make fuzz`)
"""

import io
import json
import random
import sys
import time
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["PIL", "models", "indexer", "service"]):
    from api_tests.test_fuzz_bodies import KINDS
    from models.datasets.coco import read_coco
    from models.datasets.scenes_json import read_scenes_json
    from models.errors import DatasetError, ImageError
    from models.image import read_image
    from service.http.bodies import parse_json
    from service.http.errors import RequestError
    from service.http.long_texts import decode_base64, take_long_texts
    from service.images.jobs import LINE_MAX_BYTES, manifest_lines
    from service.images.schemas import ImportLine, check_metadata_size

from models.tests.test_annotations import annotations
from models.tests.test_fuzz import LIMITS, SLOWEST_S, mutated, seeds

LARGEST = 2**16


def picture(content: bytes, folder: Path) -> bool:
    try:
        read_image(content, LIMITS)
    except ImageError:
        return False
    return True


def body(content: bytes, folder: Path) -> bool:
    kind = KINDS[content[0] % len(KINDS)] if content else KINDS[0]
    rest, texts = take_long_texts(content[1:])
    for text in texts.values():
        try:
            decode_base64(text)
        except ValueError:
            continue
    try:
        parse_json(kind, rest, context=texts)
    except RequestError as error:
        assert len(error.errors) <= 20
        return False
    return True


def manifest(content: bytes, folder: Path) -> bool:
    read = False
    for _, line in manifest_lines(io.BytesIO(content)):
        if len(line) > LINE_MAX_BYTES:
            continue
        try:
            check_metadata_size(parse_json(ImportLine, line), LINE_MAX_BYTES)
            read = True
        except RequestError:
            continue
    return read


def annotation(content: bytes, folder: Path) -> bool:
    (folder / "annotations.json").write_bytes(content[1:])
    try:
        (read_coco if content[:1] < b"\x80" else read_scenes_json)(folder)
    except DatasetError:
        return False
    return True


def json_seeds() -> list[bytes]:
    example = {
        "queries": [{"image_base64": "aGVsbG8=", "box": {"x1": 0, "y1": 1.5, "x2": 9, "y2": 9}}],
        "filter": {"camera_id": {"in": ["a"]}, "captured_at": {"from": "2026-11-20T08:15:00Z"}},
        "rerank": {"method": "cbgm", "top_n": 5},
        "mode": "preview",
        "image_ids": ["img_01JD5T6Q0Z8W3V7X9Y2K4M6N8P"],
        "label": "Ann",
        "targets": [0.01],
        "protocol": {"queries": [{"detection_id": "det_x", "holds": [{"image_id": "img_x"}]}]},
    }
    whole = json.dumps(example).encode()
    parts = [json.dumps({name: value}).encode() for name, value in example.items()]
    return [bytes([n]) + one for n in range(len(KINDS)) for one in (whole, *parts)]


def manifest_seeds() -> list[bytes]:
    line = {"file": "a/b.jpg", "external_id": "x", "camera_id": "c", "tags": ["t"]}
    line |= {"captured_at": "2026-11-20T08:15:00+01:00", "attributes": {"a": "b"}}
    one = json.dumps(line).encode()
    return [one, b"\xef\xbb\xbf" + one + b"\r\n\n" + one, b'{"file":"\\u00e4"}\n' * 3]


def annotation_seeds() -> list[bytes]:
    kinds = {"coco": b"\0", "scenes": b"\xff"}
    return [
        which + json.dumps(annotations(kind, **options), ensure_ascii=escaped).encode()
        for kind, which in kinds.items()
        for options in ({}, {"person": "3", "ignore": True})
        for escaped in (True, False)
    ]


TARGETS = {
    "pictures": (picture, lambda: list(seeds())),
    "bodies": (body, json_seeds),
    "manifests": (manifest, manifest_seeds),
    "annotations": (annotation, annotation_seeds),
}


def main(name: str, seconds: int, folder: Path) -> None:
    read, make_seeds = TARGETS[name]
    corpus, work = folder / "corpus", folder / "work"
    for each in (corpus, work / "images"):
        each.mkdir(parents=True, exist_ok=True)
    if name == "annotations":
        from PIL import Image

        for number in range(3):
            Image.new("RGB", (640, 480)).save(work / "images" / f"{number}.png")
    begun = make_seeds()
    for number, content in enumerate(begun):
        (corpus / f"seed-{number:03}").write_bytes(content)
    told = {"target": name, "inputs": 0, "read": 0, "slowest_s": 0.0, "seconds": seconds}
    last = time.monotonic()

    def one(content: bytes) -> None:
        nonlocal last
        began = time.process_time()
        told["read"] += read(content, work)
        took = time.process_time() - began
        told["inputs"] += 1
        if took > told["slowest_s"]:
            told["slowest_s"] = round(took, 4)
            (folder / "slowest").write_bytes(content)
        assert took < SLOWEST_S, f"{took:.1f} s"
        if time.monotonic() - last > 1:  # libFuzzer ends the process without a word
            last = time.monotonic()
            (folder / "report.json").write_text(json.dumps(told))

    def changed(content: bytes, size: int, seed: int) -> bytes:
        """Half of the time by libFuzzer, half by what is known of files."""
        if seed % 2:
            return atheris.Mutate(content, size)[:size]
        return mutated(content or b"\0", begun, random.Random(seed))[:size]

    arguments = [f"-max_total_time={seconds}", f"-max_len={LARGEST}", "-timeout=30"]
    arguments += ["-rss_limit_mb=2048", f"-artifact_prefix={folder}/", "-print_final_stats=1"]
    atheris.Setup([sys.argv[0], *arguments, str(corpus)], one, custom_mutator=changed)
    atheris.Fuzz()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]))
