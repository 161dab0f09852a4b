"""models: what a host gives `agentos.open(models=...)` and `agentos.run(model=...)`.

    agentos.models.openai("gpt-5-mini", price=(0.25, 2.0))                        a model of OpenAI
    agentos.models.openai("qwen3", base_url="http://localhost:11434/v1")          or of any server that speaks Chat Completions
    agentos.models.scripted([[("fs.read", {"path": "/a"})], "It says hello."])    no server: it says what it is told to

A profile is the host's: an image names it, and never sees where the model is, its key or its price.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from agentos.abi.limits import MODEL_SLOTS, MODEL_TIMEOUT_S
from agentos.abi.model import ModelRequest
from agentos.devices.llm.openai import OpenAI
from agentos.devices.llm.profile import Price, Profile, named_key
from agentos.devices.llm.scripted import Recorder, Recording, ScriptedModel, Turn, read_turns
from agentos.errors import Invalid

__all__ = ["Price", "Profile", "Recorder", "Recording", "ScriptedModel", "openai", "scripted"]


def openai(  # noqa: PLR0913 - one option per thing that a host decides
    model: str,
    *,
    key: str | Callable[[], str] | None = None,
    base_url: str | None = None,
    price: Price | tuple[float, ...] = (),
    clearance: str = "internal",
    window_tokens: int = 128_000,
    output_tokens: int = 8_000,
    slots: int = MODEL_SLOTS,
    timeout_s: float = MODEL_TIMEOUT_S,
    tokens_param: str = "max_completion_tokens",
    options: Mapping[str, Any] | None = None,
) -> Profile:
    """Return the profile of a model on a server that speaks OpenAI's Chat Completions.

    Args:
        model: Its name on the server.
        key: The API key, or a function that gives it; None is OPENAI_API_KEY, looked up with the first call. A server of one's own may
            need none.
        base_url: Where the server is, with its ``/v1``; None is OpenAI.
        price: US dollars per million tokens: (input, output) or (input, output, cached input). Without, `usd` budgets see nothing of it.
        clearance: The strictest level of data that it may be told: public, internal or secret.
        window_tokens: The longest conversation that it takes, with its answer.
        output_tokens: Tokens kept free for the answer.
        slots: Calls under way at once.
        timeout_s: Seconds that one attempt may take.
        tokens_param: ``max_tokens`` for servers that do not know the newer name.
        options: Further parameters of every request, such as ``{"reasoning_effort": "low"}``.

    Raises:
        Invalid: `invalid.argument`, an option is out of range.
    """
    if not isinstance(price, Price):
        if len(price) not in (0, 2, 3):
            hint = "give (input, output), in US dollars per million tokens"
            raise Invalid("argument", f"{len(price)} numbers are no price", hint=hint, field="price")
        price = Price(*price)
    driver = OpenAI(model, key=_key_of(key, base_url), base_url=base_url, tokens_param=tokens_param, options=options)
    return Profile(driver, price, clearance, window_tokens, output_tokens, slots=slots, timeout_s=timeout_s)


def scripted(turns: Sequence[Turn] | Callable[[ModelRequest], Any] | Path, *, delay_s: float = 0) -> ScriptedModel:
    """Return a model that says what it is told to: a list of turns, a function from the request to a turn, or the path of a file.

    Raises:
        Invalid: `invalid.argument`, the file is no list of turns.
    """
    return ScriptedModel(read_turns(turns) if isinstance(turns, Path) else turns, delay_s=delay_s)


def _key_of(key: str | Callable[[], str] | None, base_url: str | None) -> Callable[[], str]:
    if key is None:
        found: Callable[[], str] = named_key("OPENAI_API_KEY", os.environ, base_url)
        return found
    return key if callable(key) else lambda: key
