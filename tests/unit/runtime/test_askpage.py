"""The page of an ask: what an agent wrote is text in a box, whatever it looks like."""

from __future__ import annotations

import re
from base64 import b64encode
from dataclasses import replace
from hashlib import sha256
from html.parser import HTMLParser
from typing import Any

import pytest

from agentos.kernel.ask import Ask
from agentos.runtime.askpage import HEADERS, ask_page, confirming, told_page, visible

EVIL = "</pre></fieldset><script>alert(1)</script><img src=x onerror=a()>\"'><form action=//evil><!-- &lt;b&gt; \u202e\x1b[31m\u200b"
ASK = Ask(
    id=3, kind="approval", pid=4, op="fs.write", args={"path": "/a", "text": "hi"}, preview={"summary": "create"}, digest="ab", rule="p:1",
    because="rule", labels=["untrusted"], lineage=["4 a:1", "1 b:1"], created=1.0, expires=9e8, state="pending",
)  # fmt: skip


class Page(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: set[str] = set()
        self.box = ""
        self.outside = ""
        self._depth = 0
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.tags.append(tag)
        self.attributes |= {name for name, _ in attrs}
        self._depth += tag == "pre"

    def handle_endtag(self, tag: str) -> None:
        self._depth -= tag == "pre"

    def handle_data(self, data: str) -> None:
        if self._depth:
            self.box += data
        else:
            self.outside += data

    def handle_comment(self, data: str) -> None:
        raise AssertionError(data)


FIELDS = {
    "kind": EVIL, "op": EVIL, "rule": EVIL, "rule_name": EVIL, "because": EVIL, "batch": EVIL, "resource": EVIL,
    "question": EVIL, "labels": [EVIL], "lineage": [EVIL, EVIL], "args": {EVIL: EVIL, "list": [EVIL, {EVIL: EVIL}]},
    "preview": {"summary": EVIL, "diff": EVIL},
    "would_cover": ({"seq": EVIL, "pid": EVIL, "op": EVIL, "resource": EVIL},),
}  # fmt: skip


@pytest.mark.parametrize("field", FIELDS)
def test_page_cannot_be_imitated_by_what_any_field_holds(field: str) -> None:
    plain = replace(
        ASK, offer="allow fs.write", scopes=("once", "tree"), question="q", rule_name="r", batch="b", irreversible=True
    )
    plain = replace(plain, would_cover=({"seq": 1, "pid": 1, "op": "a", "resource": "r"},), resource="/a")
    before, after = Page(ask_page(plain, "m")), Page(ask_page(replace(plain, **{field: FIELDS[field]}), "m"))
    assert set(after.tags) <= set(before.tags)
    assert after.attributes == before.attributes
    assert not any(each in ask_page(replace(plain, **{field: FIELDS[field]}), "m") for each in ("\u202e", "\x1b", "\u200b"))


def test_what_the_agent_wrote_stays_in_its_box() -> None:
    marker = "AGENT"
    ask = replace(
        ASK, args={marker: marker}, preview={"summary": marker, "diff": marker}, resource=marker, question=marker, offer=marker
    )
    page = Page(ask_page(ask, "m"))
    assert marker in page.box
    assert marker not in page.outside


def test_a_question_with_evil_options_has_a_form_and_nothing_more() -> None:
    ask = replace(ASK, kind="question", op="human.ask", args={"question": EVIL, "options": [EVIL, "tea"]}, preview=None)
    page = Page(ask_page(ask, "m", problem=EVIL))
    assert page.tags.count("option") == 3
    assert page.tags.count("form") == 1
    assert not {"script", "img"} & set(page.tags)


@pytest.mark.parametrize(
    "char",
    ["\x00", "\x07", "\x1b", "\x7f", "\x85", "\u00a0", "\u00ad", "\u034f", "\u061c", "\u115f", "\u200b", "\u200d", "\u200e", "\u2028",
     "\u202e", "\u2066", "\u2800", "\u3000", "\u3164", "\ufe0f", "\ufeff", "\uffa0", "\U000e0041", "\U000e0100", "\ue000", "\ud800"],
)  # fmt: skip
def test_every_character_that_hides_or_reorders_is_seen(char: str) -> None:
    shown = visible(f"a{char}b\n")
    assert char not in shown
    assert re.fullmatch(r"a\\[xuU][0-9a-f]{2,8}b\n", shown)


def test_marks_that_pile_up_are_seen_and_accents_stay() -> None:
    assert visible("re\u0301sume\u0301 Ünï") == "re\u0301sume\u0301 Ünï"
    assert visible("a" + "\u0301" * 4) == "a\u0301\u0301\\u0301\\u0301"


def test_a_hidden_page_says_nothing_but_the_number() -> None:
    secret = "hush"
    ask = replace(ASK, **dict.fromkeys(("op", "rule", "because", "resource", "question", "offer"), secret), args={"a": secret})
    page = ask_page(ask, "m", is_hidden=True)
    assert secret not in page
    assert "approve" not in page
    assert 'value="show"' in page


def test_credentials_are_not_on_the_page() -> None:
    token = "ghp_" + "a" * 36
    ask = replace(
        ASK, args={"text": f"use {token}", "list": [token]}, preview={"diff": token}, resource=token, offer=f'allow x "{token}"'
    )
    assert token not in ask_page(ask, "m")
    assert "[redacted]" in ask_page(ask, "m")


def test_a_text_that_is_longer_than_what_is_shown_says_so_outside_the_box() -> None:
    page = Page(ask_page(replace(ASK, args={"text": "x" * 200_000}, preview=None), "m"))
    assert "not all of it" in page.outside
    assert "not all of it" not in Page(ask_page(ASK, "m")).outside


def test_the_verb_is_wanted_where_nothing_takes_it_back() -> None:
    assert confirming(ASK) == ""
    assert confirming(replace(ASK, irreversible=True)) == "write"
    assert confirming(replace(ASK, kind="unknown_outcome")) == "write"


def test_the_policy_of_a_page_lets_its_own_style_in_and_nothing_else() -> None:
    policy = dict(HEADERS)["content-security-policy"]
    for page in (ask_page(ASK, "m"), told_page("a", "b")):
        style = page.partition("<style>")[2].partition("</style>")[0]
        assert f"'sha256-{b64encode(sha256(style.encode()).digest()).decode()}'" in policy
        assert not re.search(r"(src|href|action|style)\s*=", page)
    assert policy.startswith("default-src 'none'; ")
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
