"""The loop of react: prompt, model, calls, save; until there is an answer.

    start    tools and model are asked for once; then the goal, or the first message
    think    llm.complete, tried again while the server says that may help; a prompt that is too long for it is paged out further
    act      the calls of the reply, in parallel
    answer   a reply without calls: the process ends with it, or, in a conversation, tells it and waits for the next message
    next     what is left, messages that came meanwhile, room in the prompt; then the save point

INVARIANT resume-never-reruns: the save point is the end of a turn, so a process that is killed repeats at most one turn, from its
journal: an answer of the model that was written down is not asked for again, and no effect is repeated.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from agentos.abi.counting import BYTES_PER_TOKEN
from agentos.abi.limits import ANSWER_REPAIRS_MAX, MODEL_BACKOFF_S_MAX, MODEL_RETRIES, QUESTION_BYTES_MAX
from agentos.broker.handle import is_handle
from agentos.errors import Denied, Unavailable
from agentos.programs.react.act import act, forget, named
from agentos.programs.react.answer import Answer, answer_of, declined, given_up
from agentos.programs.react.excerpt import excerpt
from agentos.programs.react.paging import page_out
from agentos.programs.react.prompt import (
    WORDS_SHARE,
    Prompt,
    assistant,
    entry,
    expect_room,
    expect_tools,
    has_room,
    status_line,
)
from agentos.programs.react.state import State
from agentos.programs.react.tell import cut, value_text

if TYPE_CHECKING:
    from agentos.abi.image import AgentImage
    from agentos.programs.sys import Sys

__all__ = ["run_react"]

_TOO_LONG_MAX: Final = 3  # times that a prompt is made shorter because the server says so
_TELL_TOKENS_MAX: Final = int(QUESTION_BYTES_MAX / BYTES_PER_TOKEN)
_MESSAGES_MAX: Final = 20  # that are taken in between two turns
_LOOKS_ONLY: Final = ("pure", "repeatable")


async def run_react(sys: Sys, image: AgentImage) -> Any:
    """Let the model of an image drive a process to its answer.

    Raises:
        Denied: `denied.budget`, it has used its turns, or what else its budget bounds.
        Invalid: `invalid.state`, it repeats itself or gives no usable answer; `invalid.manifest`, its prompt has no room.
        Unavailable: the model cannot be had, or declined.
    """
    agent = _Agent(sys, image)
    await agent.start()
    while True:
        await agent.hear()
        reply = await agent.think()
        if reply["calls"]:
            await agent.act(reply)
        elif await agent.answer(reply):
            return agent.result
        await agent.next()


class _Agent:
    """One run of the loop. What has to survive is in `state`."""

    def __init__(self, sys: Sys, image: AgentImage) -> None:
        args = dict(sys.args)
        chat = bool(args.pop("chat", False)) or sys.goal is None
        goal = None if sys.goal is None else sys.goal if isinstance(sys.goal, str) else value_text(sys.goal)
        self._sys = sys
        self._image = image
        self._prompt = Prompt(image, goal, args, chat=chat)
        self._is_chat = chat
        self.result: Any = None
        self.state = State(**sys.state) if sys.state is not None else State(chat=chat, awaiting=goal is None)
        sys.expose("turn", lambda: self.state.turn)

    async def start(self) -> None:
        """Find out what there is to work with: at the beginning, and where another process's state came with the image.

        Raises:
            Invalid: `invalid.manifest`, the prompt has no room, or the image names a tool that is none.
        """
        state, image = self.state, self._image
        if state.image == image.digest[:16]:
            return
        if state.image:
            state.since, state.chat, state.awaiting, state.reply_to = state.turn, self._is_chat, self._sys.goal is None, None
        state.image = image.digest[:16]
        model = await self._sys.llm.info(profile=image.profile)
        room = model["window_tokens"] - model["output_tokens"]
        state.tokens_max = min(image.context_tokens or room, room)
        await self._look_at_tools()
        expect_tools(image, state.tools)
        await self._look_around()

    async def hear(self) -> None:
        """Wait for the message that a conversation goes on with, if it is its turn."""
        if self.state.awaiting:
            await self._receive()
            await self._look_around()

    async def _look_at_tools(self, *, again: bool = False) -> None:
        """Find out which tools there are; `again`, ones that came since and leave no room are not shown, rather than ending the process."""
        state, tools = self.state, await self._sys.tool.list()
        fixed = self._prompt.fixed_tokens(tools)
        if again and not has_room(state.tokens_max, fixed):
            return
        expect_room(state.tokens_max, fixed)
        state.fixed_tokens = fixed
        state.tools = [op for tool in tools for op in tool["ops"]]
        state.acting = [op for tool in tools if tool["effect"] not in _LOOKS_ONLY for op in tool["ops"]]

    # --- a turn -------------------------------------------------------------------------------------------------------------

    async def think(self) -> dict[str, Any]:
        """Ask the model for its next turn.

        Raises:
            Denied: `denied.budget`, there are no turns left.
            Unavailable: the model cannot be had.
        """
        state, turns = self.state, self._image.body.turns
        if state.turn - state.since >= turns:
            said = f"process {self._sys.pid} has used its {turns} turns without an answer"
            raise Denied("budget", said, hint="give `program: {turns: ...}` more, or a smaller goal", limit="turns")
        state.turn += 1
        is_last = state.turn - state.since == turns
        for _ in range(_TOO_LONG_MAX):
            try:
                return await self._complete([] if is_last else state.tools)
            except Unavailable as error:
                if error.fields.get("why") != "context":
                    raise
            state.tokens_max = int(state.tokens_max * 0.6)
            await page_out(self._sys, state, to=0.3, at=0.3)
        return await self._complete([])

    async def _complete(self, tools: list[str]) -> dict[str, Any]:
        patient = self._sys.options(retries=MODEL_RETRIES, backoff_s_max=MODEL_BACKOFF_S_MAX)
        reply: dict[str, Any] = await patient.llm.complete(
            messages=self._prompt.messages(self.state), tools=tools, result=self._image.result_schema, profile=self._image.profile,
            turn=self.state.turn,
        )  # fmt: skip
        return reply

    async def act(self, reply: dict[str, Any]) -> None:
        """Make the calls of a reply and enter what came of them."""
        state = self.state
        calls = named(reply, state.turn, state.tokens_max)
        said = assistant(await self._said(reply), calls, self._words_max)
        told = await act(self._sys, state, calls, wanted=len(reply["calls"]), is_cut=reply["finish"] == "length")
        state.window.append(entry(state.turn, [said, *told]))
        state.repairs = 0

    async def answer(self, reply: dict[str, Any]) -> bool:
        """Take a reply without calls; True when it ends the process.

        Raises:
            Invalid: `invalid.state`, it was not usable once too often.
            Unavailable: the model declined; a conversation goes on after that.
        """
        state = self.state
        if state.chat and reply["finish"] == "refusal":
            found = Answer(f"[the model declined: {declined(reply)}]")
        else:
            found = answer_of(reply, self._image.result_schema)
        said = assistant(await self._said(reply), [], self._words_max)
        if found.again:
            state.repairs += 1
            if state.repairs > ANSWER_REPAIRS_MAX:
                raise given_up(found.again)
            state.window.append(entry(state.turn, [said, {"role": "user", "content": found.again}]))
            return False
        state.repairs = 0
        self.result = found.value
        if not state.chat:
            return True
        state.window.append(entry(state.turn, [said]))
        await self._sys.human.tell(text=cut(value_text(found.value), _TELL_TOKENS_MAX), reply_to=state.reply_to)
        state.awaiting = True
        return False

    async def _said(self, reply: dict[str, Any]) -> str:
        """Return the text of a reply as it is shown again; a longer one is kept whole as an object."""
        text = reply["text"] or reply.get("refusal", "")
        if not reply["calls"]:
            text = _said_aloud(text)
        most = self._words_max // 2 if reply["calls"] else self._words_max
        return await excerpt(self._sys, text, f"said/{self.state.turn}", most, part_tokens=self._words_max)

    @property
    def _words_max(self) -> int:
        return int(self.state.tokens_max * WORDS_SHARE)

    # --- between turns ------------------------------------------------------------------------------------------------------

    async def next(self) -> None:
        """Prepare the next turn and make it the save point."""
        await self._look_around()
        await self._sys.save(self.state.data())

    async def _look_around(self) -> None:
        """See what is left, whether rights have changed, and what was written meanwhile. Who waits for a message does that first."""
        state, turns = self.state, self._image.body.turns
        if not state.awaiting:
            status = await self._sys.proc.status()
            if status["rights"] != state.rights:
                forget(state)
                if state.rights:
                    await self._look_at_tools(again=True)
                state.rights = status["rights"]
            for _ in range(min(status["unread"], _MESSAGES_MAX)):
                await self._receive()
            state.status = status_line(status, state.turn + 1 - state.since, turns)
        await page_out(self._sys, state)

    async def _receive(self) -> None:
        """Take one message in, waiting for it; in a conversation it is what is answered next.

        Its user is the host, and who started it: others get no answer in their place, and no turns of their own. Once the turns are used
        up, only the user is listened to.
        """
        state, users = self.state, (0, self._sys.ppid)
        is_spent = state.awaiting and state.turn - state.since >= self._image.body.turns
        message = await (self._sys.msg.recv(sender=0) if is_spent and users == (0, 0) else self._sys.msg.recv())
        if is_handle(message):
            text, number, sender = value_text(message), message["id"], message["sender"]
        else:
            text, number, sender = _said_aloud(value_text(message.value)), message.id, message.sender
        name = f"messages/{number}"
        text = await excerpt(self._sys, text, name, self._words_max, part_tokens=self._words_max)
        if sender == 0:
            forget(state)
        else:
            text = f"[message from process {sender}]\n{text}"
        state.window.append(entry(state.turn, [{"role": "user", "content": text}]))
        if state.chat:
            if sender in users:
                state.reply_to, state.since = number, state.turn
            elif state.awaiting:
                state.reply_to = number
            state.awaiting = False


def _said_aloud(text: str) -> str:
    """Return a text that is a whole message: there are servers that take no empty one."""
    return text if text.strip() else "(nothing)"
