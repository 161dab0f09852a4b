"""A preview shows a file's lines as the file has them."""

from __future__ import annotations

import pytest

from agentos.devices.fs.preview import difference


@pytest.mark.parametrize("separator", ["\u2028", "\x0c", "\x85", "\x1c", "\r"])
def test_only_a_line_feed_ends_a_line(separator: str) -> None:
    text, is_cut = difference(b"", f"one{separator}two\n".encode(), "/a")
    assert not is_cut
    assert f"+one{separator}two\n" in text
    assert "no newline" not in text


def test_a_file_that_does_not_end_in_a_line_feed_is_shown_to() -> None:
    assert difference(b"a\n", b"a\nb", "/a")[0].endswith("+b\n\\ no newline at end of file\n")
    assert "no newline" not in difference(b"", b"", "/a")[0]
