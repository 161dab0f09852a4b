"""LanguageModels: the llm device. One attempt per call: what comes next is decided by who called, and journaled as a call of its own.

    permit -> profile -> driver -> reply as plain data, its tokens and their price as the call's true cost

What a profile may be told (`clearance`) is asked here once more, for the profile of this very call: the op's own clearance is that of the
strictest profile that a host usually has.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

import anyio

from agentos.abi.counting import count_messages, count_text
from agentos.abi.labels import LEVELS
from agentos.abi.model import ModelReply, ModelRequest, Usage, Vectors, model_failed
from agentos.abi.op import OpTable
from agentos.abi.permit import Permit
from agentos.abi.syscall import Estimate, Syscall
from agentos.devices.llm.profile import Profile, expect_model
from agentos.devices.llm.received import read_json
from agentos.errors import AgentOSError, Invalid, Unavailable

__all__ = ["LanguageModels"]

log = logging.getLogger("agentos.devices")

_BILLED: Final = ("timeout", "reply")  # failures after which a server may have done its work, and bill it
_SIZES_MAX: Final = 256  # questions that were estimated and not asked yet, whose size is kept
_TIMES_MOST: Final = 4  # what a server reports is believed up to so many times the estimate
_TOKENS_SPARE: Final = 1_000  # and so many more: what it adds to a short question


class LanguageModels:
    """Serves ``llm.complete`` and ``llm.embed`` from the profiles of one kernel.

    Args:
        profiles: Name -> profile.
        declared: Name of an op -> its declaration as a tool of Chat Completions.
        watch: Has values scrubbed from whatever comes in from now on, by a name for them: the keys of the drivers.
    """

    def __init__(
        self,
        profiles: Mapping[str, Profile],
        declared: Callable[[str], dict[str, Any]],
        watch: Callable[[str, Iterable[str]], None] = lambda name, values: None,
    ) -> None:
        self.profiles = profiles
        self._declared = declared
        self._tool_sizes: dict[str, int] = {}
        self._sizes: dict[int, tuple[dict[str, Any], int]] = {}
        self._watch = watch

    def syscalls(self, ops: OpTable) -> list[Syscall]:
        """Return the ops of this device."""
        shared: dict[str, Any] = {"slot": slot_of, "clearance": self._clearance}
        return [
            Syscall(ops.find("llm.complete"), self.complete, estimate=self._estimate, **shared),
            Syscall(ops.find("llm.embed"), self.embed, estimate=self._estimate_vectors, **shared),
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

    def clearance(self, name: str) -> int | None:
        """Return the strictest level that a profile may be told, None when the host has none of that name."""
        profile = self.profiles.get(name)
        return LEVELS.index(profile.clearance) if profile is not None else None

    def _clearance(self, args: dict[str, Any]) -> int:
        """Return the strictest level that the profile of a call may be told; what is not there is told nothing."""
        return self.clearance(args["profile"]) or 0

    def _estimate(self, args: dict[str, Any]) -> Estimate:
        """Return about what the question costs; the answer is wanted as long as it may be, and gets what the budget has left."""
        profile = self.profiles.get(args["profile"])
        if profile is None:
            return Estimate({})  # nobody is asked
        tokens = profile.meter.tokens(self._size(args))
        each = _cost(profile, Usage(0, 1))
        return Estimate(_cost(profile, Usage(tokens)), _answer_tokens(profile, args["tokens_max"], tokens), each)

    def _estimate_vectors(self, args: dict[str, Any]) -> Estimate:
        profile = self.profiles.get(args["profile"])
        return Estimate(_cost(profile, Usage(sum(map(count_text, args["texts"])))) if profile is not None else {})

    def _size(self, args: dict[str, Any]) -> int:
        """Return the tokens of a question, by the kernel's counter. It is asked for before a call is admitted and again when it runs."""
        known = self._sizes.get(id(args))
        if known is not None:
            return known[1]
        size = count_messages(args["messages"]) + sum(map(self._tool_size, args["tools"] or ()))
        self._sizes[id(args)] = args, size  # while it is kept here, no other arguments have this id
        if len(self._sizes) > _SIZES_MAX:
            del self._sizes[next(iter(self._sizes))]
        return size

    def _tool_size(self, tool: str | dict[str, Any]) -> int:
        if not isinstance(tool, str):
            return count_messages((), [tool])
        size = self._tool_sizes.get(tool)
        if size is None:
            size = self._tool_sizes[tool] = count_messages((), [self._declared(tool)])
        return size

    def _tools(self, tools: list[str | dict[str, Any]] | None) -> list[dict[str, Any]]:
        return [self._declared(tool) if isinstance(tool, str) else tool for tool in tools or ()]

    def find(self, name: str) -> Profile:
        """Return a profile.

        Raises:
            Unavailable: `unavailable.missing`, the host has none of that name.
        """
        try:
            return expect_model(self.profiles, name)
        except Invalid as error:
            raise Unavailable("missing", error.message, hint=error.hint, why="profile", retry=False) from None

    async def complete(self, permit: Permit, args: dict[str, Any]) -> dict[str, Any]:
        """Ask a model for the next message of a conversation: one attempt.

        Raises:
            Unavailable: as `agentos.abi.model.model_failed` says; `why` and `retry` are in its fields.

        Cancellation: the connection is closed. The tokens of the question count as used: the server may bill them.
        """
        permit.spend("llm.complete")
        profile = self.find(args["profile"])
        messages, tools = args["messages"], self._tools(args["tools"])
        estimated = self._size(args)
        self._sizes.pop(id(args), None)
        tokens = profile.meter.tokens(estimated)
        if tokens >= profile.window_tokens:
            text = f"the conversation has about {tokens} tokens, the model takes {profile.window_tokens}"
            raise model_failed("context", text, hint="say less, or use a profile with a longer window")
        tokens_max = _answer_tokens(profile, args["tokens_max"], tokens)
        if permit.units is not None:
            tokens_max = min(tokens_max, permit.units)
        request = ModelRequest(
            permit.pid, messages, tools, tokens, args["result"], tokens_max, args["temperature"], profile.timeout_s, permit.attempt,
            args["turn"], permit.delta,
        )  # fmt: skip
        with self._asking(permit, profile, tokens):
            reply = await profile.driver.complete(request)
        usage = _usage(reply, request)
        if not usage.is_estimate:
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
        tokens = sum(map(count_text, texts))
        with self._asking(permit, profile, tokens):
            made: Vectors = await make(texts, profile.timeout_s)
        permit.cost = _cost(profile, _bounded(made.usage, Usage(tokens, is_estimate=True)))
        return made.vectors

    @contextmanager
    def _asking(self, permit: Permit, profile: Profile, tokens: int) -> Iterator[None]:
        """Ask a driver: its key is in nothing that comes back, and a question that a server may bill without an answer is charged."""
        secrets = getattr(profile.driver, "secrets", None)
        if secrets is not None:
            self._watch(f"model {type(profile.driver).__name__}", secrets())
        try:
            yield
        except anyio.get_cancelled_exc_class():
            permit.cost = _cost(profile, Usage(tokens))
            raise
        except Unavailable as error:
            if error.fields.get("why") in _BILLED:
                permit.cost = _cost(profile, Usage(tokens))
            raise
        except AgentOSError:
            raise
        except Exception as error:  # a driver of the host's: what it raises helps its author, and another attempt nobody
            raise model_failed("reply", f"the driver failed: {type(error).__name__}: {error}"[:500]) from error


def slot_of(args: dict[str, Any]) -> str:
    """Return the name of what a call occupies while it runs."""
    return f"llm/{args['profile']}"


def _answer_tokens(profile: Profile, asked: int | None, question: int) -> int:
    """Return how long an answer may be: as asked, else as the profile says, and never longer than the window has room for."""
    return max(min(asked or profile.output_tokens, profile.window_tokens - question), 1)


def _usage(reply: ModelReply, request: ModelRequest) -> Usage:
    said = _said(reply)
    return _bounded(reply.usage, Usage(request.tokens, said, is_estimate=True), max(request.tokens_max or 0, said))


def _bounded(reported: Usage | None, estimate: Usage, output_most: int = 0) -> Usage:
    """Return the tokens of an answer. What the server says counts where it can be true; else it is bounded, and marked as an estimate."""
    if reported is None or not reported.total:
        return estimate
    asked = min(reported.input, _TIMES_MOST * estimate.input + _TOKENS_SPARE)
    said = min(reported.output, _TIMES_MOST * output_most + _TOKENS_SPARE)
    if (asked, said) == (reported.input, reported.output) and asked >= 0 and said >= 0 and 0 <= reported.cached <= asked:
        return reported
    log.warning("usage_refused input=%d output=%d cached=%d", reported.input, reported.output, reported.cached)
    return Usage(max(asked, estimate.input), max(said, estimate.output), is_estimate=True)


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
    """Return a text as data, None where it is no JSON, or none that can be kept."""
    try:
        return read_json(text)
    except ValueError:
        return None
