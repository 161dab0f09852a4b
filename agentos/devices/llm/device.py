"""LanguageModels: the llm device. One attempt per call: what comes next is decided by who called, and journaled as a call of its own.

    permit -> profile -> driver -> reply as plain data, its tokens and their price as the call's true cost

What a profile may be told (`clearance`) is asked here once more, for the profile of this very call: the op's own clearance is that of the
strictest profile that a host usually has.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, Final

import anyio

from agentos.abi.counting import count_messages, count_text
from agentos.abi.labels import LEVELS
from agentos.abi.model import ModelReply, ModelRequest, Usage, model_failed
from agentos.abi.op import OpTable, closest
from agentos.abi.permit import Permit
from agentos.abi.syscall import Syscall
from agentos.devices.llm.profile import Profile
from agentos.errors import Unavailable

__all__ = ["LanguageModels"]

_THREE_WAYS: Final = (
    "set OPENAI_API_KEY, or OPENAI_BASE_URL for a compatible server, or give a model: open(models=...), `--model scripted:FILE`"
)


class LanguageModels:
    """Serves ``llm.complete`` and ``llm.embed`` from the profiles of one kernel.

    Args:
        profiles: Name -> profile.
        declared: Name of an op -> its declaration as a tool of Chat Completions.
    """

    def __init__(self, profiles: Mapping[str, Profile], declared: Callable[[str], dict[str, Any]]) -> None:
        self.profiles = profiles
        self._declared = declared

    def syscalls(self, ops: OpTable) -> list[Syscall]:
        """Return the ops of this device."""
        shared: dict[str, Any] = {"slot": slot_of, "clearance": self._clearance}
        return [
            Syscall(ops.find("llm.complete"), self.complete, estimate=self._estimate, **shared),
            Syscall(ops.find("llm.embed"), self.embed, **shared),
            Syscall(ops.find("llm.info"), self.info, awaits=False),
        ]

    async def close(self) -> None:
        """Close what drivers keep open."""
        for profile in self.profiles.values():
            close = getattr(profile.driver, "close", None)
            if close is not None:
                await close()

    def slots(self) -> dict[str, int]:
        """Return how many calls each profile takes at once, by the name of its slot."""
        return {slot_of({"profile": name}): profile.slots for name, profile in self.profiles.items()}

    def _clearance(self, args: dict[str, Any]) -> int:
        """Return the strictest level that the profile of a call may be told; what is not there is told nothing."""
        profile = self.profiles.get(args["profile"])
        return LEVELS.index(profile.clearance) if profile is not None else 0

    def _estimate(self, args: dict[str, Any]) -> dict[str, float]:
        """Return about what the question costs. What the answer costs is bounded by what the budget has left."""
        profile = self.profiles.get(args["profile"])
        counted = count_messages(args["messages"], self._tools(args["tools"]))
        return {"tokens": float(profile.meter.tokens(counted) if profile is not None else counted)}

    def _tools(self, tools: list[str | dict[str, Any]] | None) -> list[dict[str, Any]]:
        return [self._declared(tool) if isinstance(tool, str) else tool for tool in tools or ()]

    def find(self, name: str) -> Profile:
        """Return a profile.

        Raises:
            Unavailable: `unavailable.missing`, the host has none of that name.
        """
        profile = self.profiles.get(name)
        if profile is None:
            known = ", ".join(self.profiles)
            hint = closest(name, self.profiles) or (f"it has {known}" if known else _THREE_WAYS)
            raise Unavailable("missing", f"the host has no model `{name}`", hint=hint, why="profile", retry=False)
        return profile

    async def complete(self, permit: Permit, args: dict[str, Any]) -> dict[str, Any]:
        """Ask a model for the next message of a conversation: one attempt.

        Raises:
            Unavailable: as `agentos.abi.model.model_failed` says; `why` and `retry` are in its fields.

        Cancellation: the connection is closed. The tokens of the question count as used: the server may bill them.
        """
        permit.spend("llm.complete")
        profile = self.find(args["profile"])
        messages, tools = args["messages"], self._tools(args["tools"])
        estimated = count_messages(messages, tools)
        request = ModelRequest(
            permit.pid, messages, tools, profile.meter.tokens(estimated), args["result"], args["tokens_max"] or profile.output_tokens,
            args["temperature"], profile.timeout_s, permit.attempt, args["turn"], permit.delta,
        )  # fmt: skip
        if request.tokens > profile.window_tokens:
            text = f"the conversation has about {request.tokens} tokens, the model takes {profile.window_tokens}"
            raise model_failed("context", text, hint="say less, or use a profile with a longer window")
        try:
            reply = await profile.driver.complete(request)
        except anyio.get_cancelled_exc_class():
            permit.cost = _cost(profile, Usage(request.tokens, is_estimate=True))
            raise
        usage = reply.usage
        if usage is None:
            usage = Usage(request.tokens, _said(reply), is_estimate=True)
        else:
            profile.meter.learn(estimated, usage.input)
        permit.cost = _cost(profile, usage)
        return _as_data(reply, usage, request)

    def info(self, permit: Permit, args: dict[str, Any]) -> dict[str, Any]:
        """Describe a model as the host offers it.

        Raises:
            Unavailable: `unavailable.missing`, the host has none of that name.
        """
        permit.spend("llm.info")
        profile = self.find(args["profile"])
        price = {"input": profile.price.input, "output": profile.price.output}
        return {
            "profile": args["profile"], "window_tokens": profile.window_tokens, "output_tokens": profile.output_tokens,
            "clearance": profile.clearance, "price": price,
        }  # fmt: skip

    async def embed(self, permit: Permit, args: dict[str, Any]) -> list[list[float]]:
        """Return one vector per text.

        Raises:
            Unavailable: as `complete`; `unavailable.missing`, the profile's driver makes no vectors.
        """
        permit.spend("llm.embed")
        profile, texts = self.find(args["profile"]), args["texts"]
        make = getattr(profile.driver, "embed", None)
        if make is None:
            text = f"the model `{args['profile']}` makes no vectors"
            raise Unavailable("missing", text, hint="name a profile of an embedding model", why="profile", retry=False)
        vectors: list[list[float]] = await make(texts, profile.timeout_s)
        permit.cost = _cost(profile, Usage(sum(map(count_text, texts)), is_estimate=True))
        return vectors


def slot_of(args: dict[str, Any]) -> str:
    """Return the name of what a call occupies while it runs."""
    return f"llm/{args['profile']}"


def _said(reply: ModelReply) -> int:
    return count_text(reply.text) + sum(count_text(call.raw or str(call.args)) for call in reply.calls)


def _cost(profile: Profile, usage: Usage) -> dict[str, float]:
    cost = {"tokens": float(usage.total)}
    usd = profile.price.of(usage)
    return {**cost, "usd": usd} if usd else cost


def _as_data(reply: ModelReply, usage: Usage, request: ModelRequest) -> dict[str, Any]:
    """Return the reply as the op's result. `value` is the text as data, where a schema was asked for and the text is JSON at all."""
    calls = [
        {"id": call.id, "name": call.name, "args": call.args, **({"raw": call.raw} if call.args is None else {})}
        for call in reply.calls
    ]
    tokens = {"input": usage.input, "output": usage.output, "cached": usage.cached, "is_estimate": usage.is_estimate}
    said: dict[str, Any] = {"text": reply.text, "calls": calls, "finish": reply.finish, "tokens": tokens, "model": reply.model}
    if request.turn:
        said["turn"] = request.turn
    if reply.refusal:
        said["refusal"] = reply.refusal
    if request.result is not None:
        said["value"] = _parsed(reply.text)
    return said


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return None
