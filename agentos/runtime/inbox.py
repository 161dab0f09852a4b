"""Answers from other machines, for a kernel whose store is on a server: the control socket's frames, through the database.

Only `answer` may be sent this way: it can be asked twice without harm, because an ask is decided once.
"""

from __future__ import annotations

import logging
from typing import Any

import anyio.to_thread

from agentos.abi.place import Dsn
from agentos.errors import AgentOSError, Invalid, KernelPanic, Unavailable
from agentos.runtime import wire
from agentos.runtime.kernel import Kernel
from agentos.runtime.served import Broken, find
from agentos.store import inbox_of, post

__all__ = ["send_answer", "serve_inbox"]

log = logging.getLogger("agentos.runtime")


async def serve_inbox(kernel: Kernel, dsn: Dsn) -> None:
    """Answer what is posted, until cancelled.

    Raises:
        Invalid: `invalid.store`, the server does not answer.

    Cancellation: safe; what was not replied to is found by the next kernel, or taken away by who posted it.
    """
    inbox = inbox_of(dsn)
    try:
        while True:
            for number, body in await inbox.waiting():
                inbox.reply(number, await _reply(kernel, body))
    finally:
        inbox.close()


async def _reply(kernel: Kernel, body: bytes) -> bytes:
    """Do what one request asks; its reply is sent once what it says is durable."""
    try:
        request = wire.parse(body)
        if request.method != "answer":
            raise Invalid(
                "argument", "only answers are taken from other machines", hint="go to the kernel's own", field="method"
            )
        method = find("answer")
        with method.guarded():
            value = await method.value(kernel, None, wire.arguments(request.args))
        await kernel.core.journal.durable(kernel.core.journal.head)
        return wire.frame(id=1, ok=True, value=value)
    except (AgentOSError, KernelPanic) as error:
        kernel.core.journal.check()  # a store that failed is no answer: the next kernel gives it
        return wire.frame(id=1, ok=False, error=error)
    except Broken:
        log.exception("inbox_request_failed")
        return wire.frame(id=1, ok=False, error=Invalid("state", "the kernel could not answer", hint="its log says why"))


async def send_answer(dsn: Dsn, args: dict[str, Any]) -> Any:
    """Have the kernel that has the store, on whatever machine, answer an ask; returns the ask.

    Raises:
        AgentOSError: what that kernel says; `unavailable.timeout`: it does not reply, or takes no answers from other machines.

    Cancellation: the request may have been seen.
    """
    reply = await anyio.to_thread.run_sync(post, dsn, wire.frame(id=1, method="answer", args=args))
    if reply is None:
        hint = "look at the ask again; or answer on the machine of that kernel"
        raise Unavailable("timeout", f"the kernel that has the store `{dsn}` does not reply", hint=hint, may_have_happened=True)
    found = wire.read(reply, wire.values)
    if found.get("ok"):
        return found["value"]
    raise found["error"]
