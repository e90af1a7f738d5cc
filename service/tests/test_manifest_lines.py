import io

import pytest

from service.http.errors import RequestError
from service.images.jobs import LINE_MAX_BYTES, manifest_lines


def lines(content: bytes, **options):
    return list(manifest_lines(io.BytesIO(content), **options))


def test_lines_are_numbered_as_an_editor_does_and_empty_ones_left_out():
    assert lines(b"\xef\xbb\xbfa\r\n\n  \n b \nc") == [(1, b"a"), (4, b"b"), (5, b"c")]
    assert lines(b"") == []
    assert lines(b"\xef\xbb\xbf\n") == []


def test_a_line_that_is_too_long_is_one_line_and_cut_off():
    content = b"a\n" + b"x" * (5 * LINE_MAX_BYTES) + b"\nb\n" + b"y" * (LINE_MAX_BYTES + 1)

    found = lines(content)

    assert [(number, line[:1]) for number, line in found] == [(1, b"a"), (2, b"x"), (3, b"b"),
                                                              (4, b"y")]  # fmt: skip
    assert [len(line) for _, line in found] == [1, LINE_MAX_BYTES + 1, 1, LINE_MAX_BYTES + 1]


@pytest.mark.parametrize("longer", [0, 1])
def test_the_longest_line_is_whole(longer):
    content = b"x" * (LINE_MAX_BYTES + longer)

    assert lines(content + b"\r\nb") == [(1, content), (2, b"b")]
    assert lines(content + b"\n" + b"b") == [(1, content), (2, b"b")]


def test_more_lines_than_may_be_are_refused_though_they_are_empty():
    assert lines(b"\n" * 10, most=10) == []
    with pytest.raises(RequestError, match="at most 10 lines"):
        lines(b"\n" * 11, most=10)
