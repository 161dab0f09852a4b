"""The calls of one turn: all at once, through the door, each result told within its share of the prompt.

A call whose arguments are no JSON is refused before it is made; so is one that was denied before, or has failed the same way
SAME_FAILURE_MAX times, for as long as nothing has changed: what is remembered is forgotten once another call has changed something, the
process's rights are others, or its user writes. Only what a person rejected stays so. A call that was not shown to the model goes through
the door like any other, unless it needs no capability: then not being shown is all that keeps a model from it, and it is refused. A
refusal has a row like any call. Nothing is retried here: the model is told, and decides.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Final

from agentos.abi.codec import digest, encode
from agentos.abi.counting import count_text
from agentos.abi.limits import (
    REMEMBERED_CALLS_MAX,
    SAME_FAILURE_MAX,
    SAME_TURN_MAX,
    SAME_TURN_WARN,
    TOOL_TEXT_TOKENS_MAX,
    TURN_CALLS_MAX,
)
from agentos.abi.op import closest
from agentos.errors import AgentOSError, Denied, Invalid
from agentos.programs.react.excerpt import NOTE_TOKENS, excerpt
from agentos.programs.react.tell import Outcome, cut, error_text, is_rejected, value_text
from agentos.tools.declaration import wire_name
from agentos.tools.shown import OWN_RIGHTS

if TYPE_CHECKING:
    from agentos.programs.react.state import State
    from agentos.programs.sys import Sys

__all__ = ["act", "forget", "named"]

Reply = dict[str, Any]
_TURN_SHARE: Final = 0.25  # of the budget, for all results of one turn
_LEAST: Final = NOTE_TOKENS + 10  # tokens that any result gets
_CALL_TOKENS: Final = 300  # of the budget, for each call that is made in one turn
_ID_CHARS: Final = 64
_OP_CHARS: Final = 100  # of a name in the journal
_HOW_CHARS: Final = 200
_BY_PERSON: Final = "denied.human"


def named(reply: Reply, turn: int, tokens_max: int) -> list[dict[str, Any]]:
    """Return the calls of a reply that are made, each with a name of its own to answer by: as many as the prompt has room to tell of."""
    seen: set[str] = set()
    calls = []
    most = min(TURN_CALLS_MAX, max(tokens_max // _CALL_TOKENS, 1))
    for at, call in enumerate(reply["calls"][:most], 1):
        given = call["id"]
        name = given if 0 < len(given) <= _ID_CHARS and given not in seen else f"call_{turn}_{at}"
        while name in seen:
            name += "x"
        seen.add(name)
        calls.append({**call, "id": name})
    return calls


def forget(state: State) -> None:
    """Forget what was denied or has failed: it may be otherwise now. What a person rejected stays rejected."""
    state.failures = {key: known for key, known in state.failures.items() if known[2] and known[1].startswith(_BY_PERSON)}


async def act(sys: Sys, state: State, calls: list[dict[str, Any]], *, wanted: int, is_cut: bool) -> list[dict[str, Any]]:
    """Make the calls of a turn and return the messages that tell what became of them.

    Args:
        sys: The process's calls.
        state: Where what failed is remembered.
        calls: The calls, as `named` returned them.
        wanted: How many the model asked for.
        is_cut: The reply was cut off, so what is no JSON is so because of that.

    Raises:
        Invalid: `invalid.state`, the model has done exactly this too often.
    """
    made = [partial(_made, sys, state, call, is_cut=is_cut) for call in calls]
    outcomes = [await made[0]()] if len(made) == 1 else await sys.gather(*made)
    _remember(state, calls, outcomes)
    messages = []
    for at, (call, outcome) in enumerate(zip(calls, outcomes, strict=True), 1):
        content = await _told(
            sys, state, call, outcome, name=f"results/{state.turn}.{at}", tokens_max=_share(state, len(calls))
        )
        messages.append({"role": "tool", "tool_call_id": call["id"], "content": content})
    remarks = (
        [f"[{wanted - len(calls)} more calls were not made: at most {len(calls)} in one turn]"] if wanted > len(calls) else []
    )
    remarks += _same_again(state, calls, outcomes)
    return [*messages, *({"role": "user", "content": remark} for remark in remarks)]


def _share(state: State, count: int) -> int:
    """Return how many tokens each of `count` results may take."""
    return max(_LEAST, min(TOOL_TEXT_TOKENS_MAX, int(state.tokens_max * _TURN_SHARE / count)))


# --- making -----------------------------------------------------------------------------------------------------------------


async def _made(sys: Sys, state: State, call: dict[str, Any], *, is_cut: bool) -> Outcome:
    """Make one call, or have it refused; its error is its outcome."""
    try:
        op = _op(state, call["name"])
        if op not in state.tools and op in OWN_RIGHTS:
            near = closest(call["name"], [wire_name(name) for name in state.tools])
            await sys.refuse(
                op, Invalid("op", f"there is no tool `{call['name'][:100]}`", hint=near or "use the tools that are declared")
            )
        elif call["args"] is None:
            why = "the answer was cut off at its token limit" if is_cut else "write one JSON object"
            await sys.refuse(
                op, Invalid("argument", f"the arguments are no JSON object: `{call.get('raw', '')[:100]}`", hint=why)
            )
        else:
            known = state.failures.get(_key(call))
            if known is not None and (known[2] or known[0] >= SAME_FAILURE_MAX):
                await sys.refuse(op, _again(known))
            return Outcome(await sys(op, **call["args"]))
    except AgentOSError as error:
        return Outcome(None, error)
    raise AssertionError("a refusal raises")


def _op(state: State, name: str) -> str:
    """Return the op that a model means: by its name on the wire, by its own, or by its verb alone where that is clear."""
    by_name = {wire_name(op): op for op in state.tools}
    if name in by_name or name in state.tools:
        return by_name.get(name, name)
    verbs = [op for op in state.tools if op.rpartition(".")[2] == name]
    return verbs[0] if len(verbs) == 1 else name.replace("__", ".")[:_OP_CHARS] or "unnamed"


def _again(known: list[Any]) -> AgentOSError:
    """Return the error of a call that is not made again."""
    if known[2]:
        reason = known[1].partition(":")[0].removeprefix("denied.")
        return Denied(reason, f"this call was denied before and was not made again ({known[1]})")
    said = f"this call has failed {known[0]} times in the same way and was not made again ({known[1]})"
    return Invalid("state", said, hint="do something else")


def _key(call: dict[str, Any]) -> str:
    return digest(call["name"].encode(), encode(call["args"])).hex()[:16]


def _remember(state: State, calls: list[dict[str, Any]], outcomes: list[Outcome]) -> None:
    """Note what failed, and forget it once it does not, or once something was changed."""
    if any(
        outcome.error is None and _op(state, call["name"]) in state.acting
        for call, outcome in zip(calls, outcomes, strict=True)
    ):
        forget(state)
    for key, error in {_key(call): outcome.error for call, outcome in zip(calls, outcomes, strict=True)}.items():
        known = state.failures.pop(key, None)
        if error is not None:
            state.failures[key] = _failed_again(known or [0, "", False], error)
    while len(state.failures) > REMEMBERED_CALLS_MAX:
        del state.failures[next(iter(state.failures))]


def _failed_again(known: list[Any], error: AgentOSError) -> list[Any]:
    """Return what is remembered of a call. A denial for want of budget or of a person is none of the call's own, and some pass."""
    if known[2] or known[0] >= SAME_FAILURE_MAX:
        return known
    how = f"{error.code}: {error.message}"[:_HOW_CHARS]
    is_own = error.code not in ("denied.budget", _BY_PERSON) or is_rejected(error)
    is_decided = isinstance(error, Denied) and is_own and "retry_after_s" not in error.fields
    return [known[0] + 1 if known[1] == how else 1, how, is_decided]


# --- telling ----------------------------------------------------------------------------------------------------------------


async def _told(sys: Sys, state: State, call: dict[str, Any], outcome: Outcome, *, name: str, tokens_max: int) -> str:
    """Return an outcome in words that fit; the whole of a longer result is kept as an object, under `name`."""
    text = _words(outcome)
    if outcome.error is not None:
        return cut(text, tokens_max)
    if _op(state, call["name"]) == "obj.get" and count_text(text) > tokens_max:
        return f"{cut(text, tokens_max - NOTE_TOKENS)}\n[cut: ask for less at once with start and count]"
    return await excerpt(sys, text, name, tokens_max, part_tokens=_share(state, 1))


def _words(outcome: Outcome) -> str:
    return value_text(outcome.value) if outcome.error is None else error_text(outcome.error)


def _same_again(state: State, calls: list[dict[str, Any]], outcomes: list[Outcome]) -> list[str]:
    """Count turns that were the same; returns what the model is told about it.

    Raises:
        Invalid: `invalid.state`, SAME_TURN_MAX turns in a row.
    """
    same = [[call["name"], call["args"]] for call in calls], [_words(outcome) for outcome in outcomes]
    now = digest(encode(same)).hex()[:16]
    state.same = [now, state.same[1] + 1 if state.same[0] == now else 1]
    if state.same[1] >= SAME_TURN_MAX:
        names = ", ".join(sorted({call["name"] for call in calls}))
        hint = "look at its log; another prompt, goal or model may help"
        raise Invalid(
            "state", f"the model made the same calls {SAME_TURN_MAX} turns in a row, with the same results: {names}", hint=hint
        )
    if state.same[1] < SAME_TURN_WARN:
        return []
    return [
        f"[You have made the same calls {state.same[1]} turns in a row, and the results were the same. Do something else, or answer.]"
    ]
