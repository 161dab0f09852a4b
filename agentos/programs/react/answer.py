"""The final result: a text, or a value that fits the image's schema. An answer that cannot be used is asked for again, so often at most."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Final

from agentos.abi.limits import ANSWER_REPAIRS_MAX
from agentos.abi.resultschema import check_result
from agentos.devices.llm.received import read_json
from agentos.errors import Invalid, Unavailable

__all__ = ["Answer", "answer_of", "declined", "given_up"]

_FENCED: Final = re.compile(r"\s*```[a-zA-Z]*\n(.*)\n```\s*", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Answer:
    """What a reply without calls is: a value, or what the model is told to do about it."""

    value: Any = None
    again: str = ""


def answer_of(reply: dict[str, Any], schema: dict[str, Any] | None) -> Answer:
    """Return the answer that a reply gives.

    Raises:
        Unavailable: the model, or a filter before it, declined.
    """
    text = reply["text"]
    if reply["finish"] == "refusal":
        raise Unavailable(
            "device",
            f"the model declined: {declined(reply)}",
            hint="put the goal in other words, or use another model",
            why="refusal",
            retry=False,
        )
    if reply["finish"] == "length":
        return Answer(again="[Your answer was cut off at the token limit, so it was not taken. Answer again, and shorter.]")
    if not text.strip():
        return Answer(again="[Your answer was empty. Call a tool, or give your final answer.]")
    if schema is None:
        return Answer(text)
    try:
        value = read_json(_unfenced(text))
        check_result(value, schema)
    except ValueError as error:
        return Answer(again=f"[Your answer is no JSON: {error}. Answer again with one JSON value and nothing else.]")
    except Invalid as error:
        if error.code != "invalid.argument":
            raise
        return Answer(
            again=f"[{error.message} (at `{error.fields.get('field', 'result')}`). Answer again with a value that fits.]"
        )
    return Answer(value)


def declined(reply: dict[str, Any]) -> str:
    """Return why the model declined, in its words, on one line."""
    return " ".join((reply.get("refusal") or reply["text"] or "no reason given").split())[:500]


def _unfenced(text: str) -> str:
    fenced = _FENCED.fullmatch(text)
    return fenced.group(1) if fenced else text


def given_up(again: str) -> Invalid:
    """Return the error of a model that gave no answer that can be used."""
    said = again.strip("[]").partition(". Answer again")[0]
    return Invalid(
        "state",
        f"the model gave no usable answer in {ANSWER_REPAIRS_MAX + 1} tries: {said}"[:600],
        hint="see its log; another model may do better",
    )
