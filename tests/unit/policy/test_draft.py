"""Drafts: the least capability that would have allowed a refused call."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentos.abi.resource import canonical_path
from agentos.errors import Invalid
from agentos.policy import parse_capability
from agentos.policy.draft import draft_request
from tests.unit.policy.builders import TABLE, call


def draft(name: str, /, **args: Any) -> str | None:
    return draft_request(*call(name, **args)[:3])


@pytest.mark.parametrize(
    ("name", "args", "text"),
    [
        ("fs.read", {"path": "/docs/a b"}, 'fs.read "/docs/a b" uses 1'),
        ("fs.read", {"path": "/a", "bytes_max": 99}, "fs.read /a when bytes_max >= 0 and bytes_max <= 99 uses 1"),
        ("fs.read", {"path": "/x/*.py"}, 'fs.read /x/*.py when path == "/x/*.py" uses 1'),
        ("fs.write", {"path": "/a", "text": "secret"}, 'fs.write /a when mode == "replace" uses 1'),
        ("fs.move", {"path": "/a", "to": "/b"}, 'fs.move /a, /b when path == "/a" and to == "/b" uses 1'),
        ("exec.run", {"argv": ["echo", "a b", "*"]}, "exec.run \"echo 'a b' '*'\" when net == false uses 1"),
        ("net.fetch", {"url": "https://a.example/x?q=1"},
         'net.fetch https://a.example/x when url == "https://a.example/x?q=1" and method == "GET" uses 1'),
        ("bank.transfer", {"account": "7*", "amount": 50},
         "bank.transfer acct/7%2A when amount >= 0 and amount <= 50 uses 1"),
        ("bank.transfer", {"account": "7", "amount": -5}, "bank.transfer acct/7 when amount == -5 uses 1"),
        ("mail.send", {"to": ["a@b.example", "c"]}, 'mail.send mail when every to in ["a@b.example", "c"] and cc is absent uses 1'),
        ("mail.send", {"to": []}, 'mail.send mail when every to in [""] and cc is absent uses 1'),
    ],
)  # fmt: skip
def test_a_draft_is_the_call_and_nothing_more(name: str, args: dict[str, Any], text: str) -> None:
    assert draft(name, **args) == text


def test_what_the_language_cannot_say_has_no_draft() -> None:
    assert draft("fs.read", path="/two\nlines") is None
    assert draft("exec.run", argv=["x" * 5_000]) is None
    assert draft("bank.transfer", account="7", amount=float("nan")) is not None  # left open: it is not a number to bound


_NAMES = st.text(st.sampled_from("ab*?[]{}\"'\\ ,%$when uses 1/.-é"), min_size=1, max_size=12)


def is_below_the_root(name: str) -> bool:
    """A path that leads above the root is refused as an argument: no such call is ever denied, so none needs a draft."""
    try:
        canonical_path(f"/{name}")
    except Invalid:
        return False
    return True


_FILES = _NAMES.filter(is_below_the_root)


@given(_FILES, _FILES, st.integers(-5, 50) | st.floats(-5, 50), st.sampled_from(["GET", "POST"]))
def test_drafts_cover_their_call_and_not_another(first: str, second: str, amount: float, method: str) -> None:
    calls = [
        call("fs.move", path=f"/{first}", to=f"/{second}"), call("fs.read", path=f"/{first}"), call("exec.run", argv=[first, second]),
        call("mail.send", to=[first], cc=second), call("bank.transfer", account=f"x{first}", amount=amount),
    ]  # fmt: skip
    drafts = [draft_request(*made[:3]) for made in calls]
    for text, made in zip(drafts, calls, strict=True):
        if text is not None:
            spec = parse_capability(text, TABLE)
            assert spec.covers(*made[:3])
            assert spec.uses == 1
    other = [
        call("fs.move", path=f"/{second}", to=f"/{first}zz"), call("fs.read", path=f"/{first}zz"),
        call("exec.run", argv=[first, second, "zz"]),
        call("mail.send", to=[first, "zz"], cc=second), call("bank.transfer", account=f"x{first}", amount=amount + 2),
    ]  # fmt: skip
    for text, made in zip(drafts, other, strict=True):
        assert text is None or not parse_capability(text, TABLE).covers(*made[:3])
