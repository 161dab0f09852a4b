"""Canonical resources: one text per thing, and no text that means another thing."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentos.abi.resource import Template, canonical_path, canonical_url
from agentos.errors import Invalid


@pytest.mark.parametrize(
    ("path", "cwd", "canonical"),
    [
        ("a", "/", "/a"), ("a", "/src", "/src/a"), (".", "/src", "/src"), ("..", "/src/x", "/src"), ("/", "/x", "/"),
        ("//a//b/", "/", "/a/b"), ("/a/./b/../c", "/", "/a/c"), ("/é/ü", "/", "/é/ü"), ("/a b", "/", "/a b"),
    ],
)  # fmt: skip
def test_every_spelling_of_a_path_has_one_canonical_text(path: str, cwd: str, canonical: str) -> None:
    assert canonical_path(path, cwd) == canonical


@pytest.mark.parametrize(
    "path", ["", "..", "/../etc", "/a/../../b", "a\0b", "/ok\0", "\ud800", "/" + "a" * 256, "/a" * 129, "a/" * 3000]
)
def test_a_path_that_cannot_be_meant_is_refused(path: str) -> None:
    with pytest.raises(Invalid) as caught:
        canonical_path(path)
    assert caught.value.code == "invalid.argument"


@given(st.lists(st.sampled_from(["a", "b", ".", "..", "", "x.y", "...", "é"]), max_size=8).map("/".join))
def test_a_canonical_path_is_canonical(path: str) -> None:
    try:
        once = canonical_path(path or ".")
    except Invalid:
        return
    assert canonical_path(once) == once
    assert once.startswith("/")
    assert not {"", ".", ".."} & set(once.split("/")[1:]) or once == "/"


@pytest.mark.parametrize(
    ("url", "canonical"),
    [
        ("HTTP://Example.ORG", "http://example.org/"), ("https://a.example:443/x", "https://a.example/x"),
        ("https://a.example./x", "https://a.example/x"), ("https://a.example/a/../b#frag", "https://a.example/b"),
        ("https://bücher.example/", "https://xn--bcher-kva.example/"), ("https://a.example:8443", "https://a.example:8443/"),
        ("http://[::1]:80/", "http://[::1]/"), ("https://a.example/x/?q=1", "https://a.example/x/?q=1"),
    ],
)  # fmt: skip
def test_every_spelling_of_a_url_has_one_canonical_text(url: str, canonical: str) -> None:
    assert canonical_url(url).text == canonical
    assert canonical_url(canonical).text == canonical


@pytest.mark.parametrize(
    "url",
    [
        "", "example.org", "//example.org/x", "https://", "https://user@a.example", "https://a:b@a.example", "https://@a.example/",
        "https://a.example:0/", "https://a.example:99999/", "https://a.example:x/", "https://a.example\\@evil.example/",
        "https://a.example/ x", "https://a.example/\n", "https://evil.example<.good.example/", "ftp2://a.example/", "https://[::1/",
        "https://a.example/../../x",
    ],
)  # fmt: skip
def test_a_url_that_could_be_read_in_two_ways_is_refused(url: str) -> None:
    with pytest.raises(Invalid):
        canonical_url(url)


@pytest.mark.parametrize(
    ("template", "args", "text"),
    [
        ("acct/{account}", {"account": "7/8"}, "acct/7%2F8"),
        ("acct/{account}", {"account": "*"}, "acct/%2A"),
        ("acct/{account}", {"account": ""}, "acct/%00"),
        ("{ns:path}/{name:path}", {"ns": "a/b", "name": "c"}, "a/b/c"),
        ("const", {}, "const"),
    ],
)
def test_a_value_can_neither_add_a_segment_nor_look_like_a_pattern(template: str, args: dict[str, Any], text: str) -> None:
    assert Template("id", template).render(args, "/").text == text


@pytest.mark.parametrize("value", ["../x", "a//b", "", ".", "a/./b"])
def test_a_field_of_several_segments_refuses_dotted_and_empty_ones(value: str) -> None:
    with pytest.raises(Invalid):
        Template("id", "{ns:path}").render({"ns": value}, "/")


@pytest.mark.parametrize("argv", [[], [""], ["ls", ""], ["ls", "a\0b"]])
def test_a_command_without_a_clear_meaning_is_refused(argv: list[str]) -> None:
    with pytest.raises(Invalid):
        Template("argv", "{argv}").render({"argv": argv}, "/")


def test_rendering_puts_the_canonical_value_back_into_the_arguments() -> None:
    args: dict[str, Any] = {"path": "../b", "url": "HTTP://A.example"}
    Template("path", "{path}").render(args, "/a")
    Template("url", "{url}").render(args, "/")
    assert args == {"path": "/b", "url": "http://a.example/"}
