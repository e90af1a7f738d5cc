"""Pictures in JSON are taken out, unescaped and decoded piece by piece: the same comes out."""

import base64
import binascii
import json
import random

import pytest

from service.http.bodies import parse_json
from service.http.long_texts import LONG, PIECE, decode_base64, take_long_texts
from service.search.schemas import SearchRequest

TEXT = base64.b64encode(random.Random(1).randbytes(3 * LONG)).decode()


def read(body: bytes) -> SearchRequest:
    rest, texts = take_long_texts(body)
    return parse_json(SearchRequest, rest, context=texts)


@pytest.mark.parametrize(
    "written",
    [
        TEXT,
        TEXT.replace("/", "\\/"),
        TEXT.replace("+", "\\u002B").replace("=", "\\u003d"),
        "".join(f"\\u{ord(each):04x}" for each in TEXT[: LONG * 2]),
    ],
    ids=["plain", "slashes escaped", "others escaped", "all escaped"],
)
def test_a_long_picture_is_what_json_says_it_is(written):
    body = (
        f'{{"limit": 7, "queries": [{{"image_base64" :\n"{written}"}}, {{"image": 0}}]}}'.encode()
    )

    rest, _ = take_long_texts(bytearray(body))
    found = read(body)

    assert len(rest) < 300
    assert found.queries[0].image_base64 == json.loads(body)["queries"][0]["image_base64"]
    assert (found.limit, found.queries[1].image) == (7, 0)


@pytest.mark.parametrize(
    "body",
    [
        b'{"queries":[{"image_base64":"aGVsbG8="}]}',
        b'{"other":"' + b"x" * 3 * LONG + b'"}',
        b'{"text":"\\"image_base64\\":' + b"x" * 3 * LONG + b'"}',
        b'{"image_base64":"' + b"x" * 3 * LONG,
        b'{"image_base64":"' + b"x" * 3 * LONG + b'\\"',
        b"",
        b'"',
        b"[1, 2]",
    ],
)
def test_what_is_no_long_picture_stays_as_it_is(body):
    assert take_long_texts(body) == (body, {})


def test_a_text_in_the_place_of_no_picture_is_refused_as_ever():
    body = b'{"queries":[{"image_id":"x"}],"filter":{"image_base64":"' + b"x" * 3 * LONG + b'"}}'

    with pytest.raises(Exception, match="image_base64"):
        read(body)


def test_several_pictures_keep_their_places():
    queries = [{"image_base64": letter * 2 * LONG} for letter in "abc"]

    found = read(json.dumps({"queries": queries}).encode())

    assert [query.image_base64[0] for query in found.queries] == ["a", "b", "c"]
    assert {len(query.image_base64) for query in found.queries} == {2 * LONG}


def test_a_broken_escape_makes_a_text_that_is_no_base64():
    body = b'{"queries":[{"image_base64":"' + b"x" * 2 * LONG + b'\\q"}]}'

    with pytest.raises(ValueError):
        decode_base64(read(body).queries[0].image_base64)


@pytest.mark.parametrize("size", [0, 1, 2, 3, PIECE * 3 // 4 - 1, PIECE * 3 // 4, PIECE, 3 * PIECE])
def test_base64_is_decoded_as_by_the_library(size):
    content = random.Random(size).randbytes(size)

    assert decode_base64(base64.b64encode(content).decode()) == content


@pytest.mark.parametrize(
    "text",
    [
        *(
            "=",
            "a",
            "ab",
            "abc",
            "ab=c",
            "ab==abcd",
            "ab c",
            "ab\ncd",
            "äbcd",
            "a-_b",
            "\\",
        ),
        "abcd" * (PIECE // 4 - 1) + "abc=" + "abcd",
        "abcd" * (PIECE // 4) + "abc",
    ],
)
def test_what_is_no_base64_is_refused(text):
    with pytest.raises((ValueError, binascii.Error)):
        base64.b64decode(text, validate=True)
    with pytest.raises(ValueError):
        decode_base64(text)


@pytest.mark.parametrize("text", ["abcd=", "abcd" * (PIECE // 4) + "="])
def test_padding_that_pads_nothing_is_refused(text):
    with pytest.raises(ValueError):
        decode_base64(text)
