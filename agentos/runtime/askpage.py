"""The page of an ask: what agentos says stands outside, what an agent had a hand in inside boxes that say so.

Nothing on a page comes from elsewhere: no script, picture, font or link. The style is named by its hash in the page's own policy.

INVARIANT page-cannot-be-imitated: text of others is escaped, holds no character that hides, reorders or overlays text, and stands in a box
that it cannot leave; it never becomes a tag, an attribute or a control of the form.
"""

from __future__ import annotations

import unicodedata
from base64 import b64encode
from datetime import UTC, datetime
from hashlib import sha256
from html import escape
from typing import Any, Final

from agentos.abi.codec import to_json
from agentos.broker.obligation import redacted
from agentos.kernel.ask import Ask

__all__ = ["HEADERS", "ask_page", "confirming", "told_page", "visible"]

_SHOWN_CHARS_MAX: Final = 100_000
_MARKS_MAX: Final = 2  # combining marks in a row; more of them reach over the lines around
_BLANK: Final = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0")
_TITLES: Final = {
    "approval": "wants to call", "question": "asks a question", "capability": "requests a capability",
    "widening": "wants to widen its policy", "unknown_outcome": "does not know whether this call happened",
}  # fmt: skip
_STYLE: Final = """
body{font:16px/1.5 system-ui,sans-serif;margin:0 auto;max-width:46rem;padding:1rem;color:#111;background:#fff}
h1{font-size:1.2rem}dt{color:#555;font-size:.85rem}dd{margin:0 0 .5rem;overflow-wrap:anywhere}
fieldset{border:2px solid #b45309;border-radius:.3rem;margin:1rem 0;min-width:0}legend{color:#92400e;font-size:.85rem}
pre{direction:ltr;unicode-bidi:bidi-override;white-space:pre-wrap;overflow-wrap:anywhere;overflow:hidden;font-size:.85rem;margin:.5rem 0}
.grave{color:#b91c1c;font-weight:bold}label{display:block;margin:.7rem 0}
input,select,textarea{display:block;box-sizing:border-box;width:100%;font:inherit;padding:.4rem}
button{font:inherit;padding:.7rem 1.4rem;margin:.5rem .5rem .5rem 0}
"""
HEADERS: Final = (
    ("content-type", "text/html; charset=utf-8"),
    ("content-security-policy", "default-src 'none'; style-src 'sha256-"
     + b64encode(sha256(_STYLE.encode()).digest()).decode() + "'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"),
    ("cache-control", "no-store"),
    # the address is a right to answer: no other site gets to know it. `no-referrer` would have browsers send their form with `Origin: null`
    ("referrer-policy", "same-origin"),
    ("x-content-type-options", "nosniff"), ("x-frame-options", "DENY"), ("x-robots-tag", "noindex, nofollow"),
    ("cross-origin-opener-policy", "same-origin"), ("cross-origin-resource-policy", "same-origin"),
)  # fmt: skip
"""Headers of every page."""


def visible(text: object) -> str:
    """Return text in which everything can be seen: what is no printable character, is blank or piles up is written as its number."""
    shown: list[str] = []
    marks = 0
    for char in str(text).replace("\r\n", "\n").replace("\t", "    "):
        marks = marks + 1 if unicodedata.category(char)[0] == "M" else 0
        is_plain = char == "\n" or (char.isprintable() and char not in _BLANK and not _is_selector(char))
        shown.append(char if is_plain and marks <= _MARKS_MAX else _number(char))
    return "".join(shown)


def confirming(ask: Ask) -> str:
    """Return the word that has to be typed to approve an ask: the op's verb where nothing takes the effect back, else nothing."""
    grave = ask.irreversible or ask.kind == "unknown_outcome"
    return ask.op.rpartition(".")[2] if grave else ""


def ask_page(ask: Ask, mark: str, *, is_hidden: bool = False, problem: str = "") -> str:
    """Return the page of a pending ask, with its form.

    Args:
        ask: As `Kernel.ask` gives it.
        mark: What the form sends back to prove that it comes from here.
        is_hidden: Show only that there is an ask, and a button to see it: what fetches a page to preview it presses none.
        problem: Why a decision was not taken.
    """
    body = [f'<p class="grave">not taken: {_line(problem)}</p>'] if problem else []
    controls = [f'<input type="hidden" name="mark" value="{escape(mark)}">']
    if is_hidden:
        body.append(f"<h1>ask {ask.id}</h1><p>It is about something secret: nothing of it is shown before you ask for it.</p>")
        controls.append('<button name="decision" value="show">Show it</button>')
    else:
        wants = f"ask {ask.id}: process {ask.pid} {_TITLES.get(ask.kind, 'wants')} {_line(ask.op)}"
        body += [f"<h1>{wants}</h1>", _facts(ask), *_agents(ask)]
        controls += _controls(ask)
    return _page(f"ask {ask.id}", [*body, f'<form method="post" autocomplete="off">{"".join(controls)}</form>'])


def told_page(title: str, text: str) -> str:
    """Return a page that says one thing."""
    return _page(title, [f"<h1>{_line(title)}</h1>", f"<p>{_line(text)}</p>"])


# --- parts ------------------------------------------------------------------------------------------------------------------


def _facts(ask: Ask) -> str:
    rule = f"{ask.rule} ({ask.rule_name})" if ask.rule_name else ask.rule
    facts = {
        "rule": rule,
        "because": ask.because,
        "asked by": " < ".join(ask.lineage),
        "labels": ", ".join(ask.labels),
        "batch": ask.batch,
    }
    if ask.expires:
        facts["expires"] = f"{datetime.fromtimestamp(ask.expires, UTC):%Y-%m-%d %H:%M} UTC"
    shown = [f"<dt>{name}</dt><dd>{_line(text)}</dd>" for name, text in facts.items() if text]
    grave = '<p class="grave">Irreversible: nothing takes it back.</p>' if ask.irreversible else ""
    if ask.kind == "unknown_outcome":
        grave = '<p class="grave">It may have happened already. Look before you have it done again.</p>'
    return f"<dl>{''.join(shown)}</dl>{grave}"


def _agents(ask: Ask) -> list[str]:
    """Return the boxes with what the agent wrote, and a warning where that is not all of it."""
    text = "\n\n".join(f"{name}:\n{_text(redacted(value, str))}" for name, value in _said(ask) if value not in (None, ""))
    boxes = [_box("written by the agent", text[:_SHOWN_CHARS_MAX])]
    is_cut = isinstance(ask.preview, dict) and ask.preview.get("cut")
    if len(text) > _SHOWN_CHARS_MAX or is_cut:
        boxes.append(f'<p class="grave">This is not all of it: it is longer than what is shown. See agentos asks {ask.id}.</p>')
    if ask.offer:
        covered = "\n".join(f"{each['seq']}  pid {each['pid']}  {each['op']}  {each['resource']}" for each in ask.would_cover)
        boxes.append(_box("a wider scope stores this rule; the values in it are the agent's", redacted(ask.offer, str)))
        boxes.append(_box("recent calls it would have covered", redacted(covered, str) or "none is known"))
    return boxes


def _said(ask: Ask) -> list[tuple[str, Any]]:
    """Return what the agent had a hand in, by name. A preview that repeats the call is not shown twice."""
    preview = ask.preview if isinstance(ask.preview, dict) else {}
    is_request = preview.get("op") == ask.op and "args" in preview
    shown: list[tuple[str, Any]] = [("question", ask.question), ("resource", ask.resource)]
    shown += [("cwd", preview.get("cwd"))] if is_request else []
    shown += [(name, value) for name, value in ask.args.items() if not ("diff" in preview and name in ("text", "data"))]
    if not is_request:
        named = ("summary", "resolved", "resolved_to", "problem", "diff")
        shown += [(name, preview.get(name)) for name in named] if preview else [("preview", ask.preview)]
    return shown


def _controls(ask: Ask) -> list[str]:
    controls: list[str] = []
    options = ask.args.get("options") if ask.kind == "question" else None
    if options:
        numbered = {"": "", **{str(at): str(each) for at, each in enumerate(options)}}
        controls.append(f'<label>answer <select name="value">{_options(numbered)}</select></label>')
    elif ask.kind == "question":
        controls.append('<label>answer <textarea name="value" rows="3"></textarea></label>')
    if ask.offer and len(ask.scopes) > 1:
        controls.append(
            f'<label>how far an approval reaches <select name="scope">{_options({each: each for each in ask.scopes})}</select></label>'
        )
    controls.append('<label>reason, told to the agent <input name="reason" maxlength="1000"></label>')
    if word := confirming(ask):
        controls.append(f'<label>type <b>{_line(word)}</b> to approve <input name="confirm" autocapitalize="none"></label>')
    yes = {"question": "Answer", "unknown_outcome": "Do it again"}.get(ask.kind, "Approve")
    controls.append('<button name="decision" value="deny">Deny</button>')  # first: what Enter presses
    controls.append(f'<button name="decision" value="approve">{yes}</button>')
    return controls


def _options(shown: dict[str, str]) -> str:
    """Return the choices of a list: what is sent, and what is shown. An agent's words are shown and never sent."""
    return "".join(f'<option value="{escape(sent)}">{_line(text)}</option>' for sent, text in shown.items())


def _box(legend: str, text: str) -> str:
    return f"<fieldset><legend>{legend}</legend><pre>{escape(visible(text))}</pre></fieldset>"


def _text(value: Any) -> str:
    return value if isinstance(value, str) else to_json(value).decode()


def _line(text: str) -> str:
    return escape(visible(text).replace("\n", "\\n"))


def _page(title: str, body: list[str]) -> str:
    head = (
        '<meta charset="utf-8"><meta name="viewport" content="width=device-width"><meta name="robots" content="noindex">'
        f"<title>agentos: {_line(title)}</title><style>{_STYLE}</style>"
    )
    return f'<!doctype html>\n<html lang="en"><head>{head}</head><body>{"".join(body)}</body></html>\n'


def _is_selector(char: str) -> bool:
    return "\ufe00" <= char <= "\ufe0f" or "\U000e0100" <= char <= "\U000e01ef"


def _number(char: str) -> str:
    code = ord(char)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
