"""The part of the embedded API by which people answer: asks, standing grants, links and notices."""

from __future__ import annotations

from typing import Any

from agentos.abi.records import AskRecord, Change
from agentos.broker.offer import would_cover
from agentos.errors import Denied, Invalid
from agentos.kernel.answer import decide
from agentos.kernel.ask import Answer, Ask, Standing, as_ask
from agentos.kernel.standing import as_standing
from agentos.runtime.base import KernelBase

__all__ = ["Asking"]


class Asking(KernelBase):
    """Asks and standing grants; a base of `Kernel`."""

    async def asks(self, state: str | None = "pending") -> list[Ask]:
        """Return the asks in a state (pending, decided, consumed, withdrawn, expired; None: all), oldest first."""
        if state in ("pending", "decided"):
            return [as_ask(record) for record in self.core.asks if record.state == state]
        records = self.core.store.current(AskRecord, live=None)
        return [as_ask(record) for record in records if state is None or record.state == state]

    async def ask(self, ask_id: int) -> Ask:
        """Return one ask in full: with the recent calls that its offer would have covered (`would_cover`).

        Raises:
            Invalid: there never was one of that number.
        """
        live = next((each for each in self.core.asks if each.ask == ask_id), None)
        record = live or self.core.store.get(AskRecord, ask_id)
        if record is None:
            raise Invalid("argument", f"there is no ask {ask_id}", hint="see `agentos asks --all`", ask=ask_id)
        return as_ask(record, would_cover(self.core, record))

    async def answer(
        self, ask_id: int, verdict: str, *, by: str, scope: str = "once", edit: dict[str, Any] | None = None, reason: str | None = None,
        **value: Any,
    ) -> Ask:  # fmt: skip
        """Answer an ask.

        Args:
            ask_id: Which.
            verdict: approve or deny.
            by: Who answers.
            scope: How far an approval reaches: ``once``, ``process``, ``tree``, ``image``, ``project``, or a duration such as ``8h`` (the
                tree, for so long). Beyond ``once`` it stores the ask's `offer` as a standing grant, which also settles the pending asks
                that it covers.
            edit: Arguments to change; the changed call is decided again.
            reason: Told to the agent.
            value: `value=` answers a question, or says what an unknown effect came to.

        Raises:
            Invalid: it is not pending, the answer does not fit, or the scope is wider than the rule that asked lets a person choose.
            Denied: `denied.human`, `by` may not answer this ask (`open(people=...)`); nothing has changed.
        """
        if set(value) - {"value"}:
            raise Invalid(
                "argument", f"answer has no argument `{min(set(value) - {'value'})}`", hint="value=...", field="value"
            )
        core = self.core
        answer = Answer(verdict, by, scope, edit, value.get("value"), "value" in value, reason, core.clock.now())
        refused: Denied | None = None
        try:
            record, settled, seq = decide(core, ask_id, answer)
        except Denied as error:
            refused, seq = error, core.journal.head if error.seq is None else error.seq
        await core.journal.durable(seq)
        if refused is not None:
            raise refused
        for each in settled:
            core.waits.wake(("ask", each))
        return as_ask(record)

    async def ask_link(self, ask_id: int, *, base_url: str, for_: str | None = None) -> str:
        """Return a link to a page on which one person answers an ask: see `agentos.runtime.webhook`, which serves it.

        Args:
            ask_id: Which; pending.
            base_url: Where the pages are served, without ``/asks``: https, or http on this machine.
            for_: The name that answers with it; None is ``webhook``. Whoever has the link answers in that name, until it expires.

        Raises:
            Invalid: there is no such ask, or it is not pending; `base_url` is none that a link may lead to.
            Denied: `denied.human`, that name may not answer this ask (`open(people=...)`).
        """
        from agentos.runtime.notice import make_link  # noqa: PLC0415 - it loads an HTTP client

        return make_link(self.core, self.keys, await self.ask(ask_id), base_url=base_url, name=for_ or "")

    async def notify(self, ask_id: int, url: str, *, base_url: str, for_: str | None = None) -> dict[str, Any]:
        """Tell an endpoint that an ask waits, with an `ask_link`: see `agentos.runtime.notice`.

        Up to five attempts, 65 s in all; each ends after 10 s. Notes in the journal say what was tried and what came of it.

        Args:
            ask_id: Which; pending.
            url: Where to POST: https, or http on this machine.
            base_url: As in `ask_link`.
            for_: As in `ask_link`.

        Returns:
            ``{delivered, status, attempts, why}``.

        Raises:
            Invalid, Denied: as `ask_link`; nothing was sent.

        Cancellation: no further attempt is made; one under way may still arrive.
        """
        from agentos.runtime.notice import notify  # noqa: PLC0415 - as above

        return await notify(self.core, self.keys, await self.ask(ask_id), url, base_url=base_url, name=for_ or "")

    async def standing(self) -> list[Standing]:
        """Return the standing grants that are live, oldest first, each with its rule and how often it was used."""
        now, store = self.core.clock.now(), self.core.store
        return [as_standing(record, store) for record in self.core.standing if not 0 < record.expires <= now]

    async def revoke_standing(self, standing: int) -> Standing:
        """Take a standing grant back: the calls it covered are asked again.

        Raises:
            Invalid: there is no live one of that number.
        """
        core = self.core
        changes: list[Change] = []
        record = core.standing.revoke(standing, changes)
        data = {"standing": standing, "scope": record.scope, "rule": record.text}
        revoked = as_standing(record, core.store)
        await core.journal.durable(core.note(0, "revoked", data, changes, ask=record.ask, rule=record.rule))
        return revoked
