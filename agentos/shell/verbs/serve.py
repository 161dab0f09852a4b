"""serve: pages on which people answer asks from elsewhere, and notices that tell them.

It holds no store: every request goes to the kernel that holds it by then, over the control socket; while none runs an answer is stored, and
the next kernel acts on it. So it can run beside whatever starts and ends kernels, and outlives a crash of either.
"""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING, Annotated, Any, Final

import anyio
import typer

from agentos.errors import AgentOSError, Denied, Invalid
from agentos.runtime.asklink import Keys, base_of, url_of
from agentos.runtime.clock import SystemClock
from agentos.shell.context import Shell
from agentos.shell.escape import line
from agentos.shell.output import Format

if TYPE_CHECKING:
    from agentos.kernel.ask import Ask

__all__ = ["serve"]

_LOOK_S: Final = 1.0
_AT_ONCE_MAX: Final = 8  # notices under way


async def serve(  # noqa: PLR0913, PLR0917 - its options
    shell: Shell,
    show_asks: Annotated[bool, typer.Option("--asks", help="Serve the pages of asks.")] = False,
    host: Annotated[str, typer.Option(help="Address to listen at.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen at; 0: any that is free.", min=0, max=65_535)] = 0,
    public_url: Annotated[str | None, typer.Option(help="Where people reach the pages.", metavar="URL")] = None,
    notify: Annotated[str | None, typer.Option(help="POST a signed notice of every ask there.", metavar="URL")] = None,
    people: Annotated[
        list[str] | None, typer.Option("--for", help="Who answers; a link for each of several.", metavar="NAME")
    ] = None,
) -> None:
    """Serve pages on which people answer asks, and say or send the links."""
    from agentos.runtime.webhook import AskPages  # noqa: PLC0415 - only this verb needs it
    from agentos.runtime.webserver import bound, check_installed  # noqa: PLC0415
    from agentos.runtime.webserver import serve as serve_app  # noqa: PLC0415

    _check(shell, show_asks=show_asks, host=host, public_url=public_url, notify=notify)
    check_installed()
    if not shell.has_store:
        raise shell.no_store()
    listening = bound(host, port)
    with listening:
        address = f"[{host}]" if ":" in host else host
        base = base_of(public_url or f"http://{address}:{listening.getsockname()[1]}")
        keys = Keys(shell.store)
        pages = AskPages(shell.looking, keys, base_url=base, clock=SystemClock())
        shell.output.note(f"serving the asks of {shell.store} at {base}")
        if notify is not None:
            keys.key("notice")
            shell.output.note(f"notices are signed; who receives them verifies with the key in {keys.path('notice')}")
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(_Teller(shell, base, notify, people or [""]).run)
            await serve_app(pages, listening)
            tasks.cancel_scope.cancel()


def _check(shell: Shell, *, show_asks: bool, host: str, public_url: str | None, notify: str | None) -> None:
    if not show_asks:
        raise Invalid("argument", "nothing was named that could be served", hint="say --asks", field="--asks")
    if shell.output.format not in (Format.TABLE, Format.JSONL):
        raise Invalid("argument", "serving has no end, so it makes no document", hint="use -o jsonl", field="--output")
    if public_url is None and not _is_loopback(host):
        hint = "say with --public-url where people reach it, through something that has a certificate"
        raise Invalid("argument", f"links to `{host}` could be read on the way", hint=hint, field="--public-url")
    if notify is not None:
        url_of(notify, "--notify")


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host) in (ipaddress.ip_address("127.0.0.1"), ipaddress.ip_address("::1"))
    except ValueError:
        return False


class _Teller:
    """Says or sends a link for every ask that waits, once for each person; again after a restart, since nothing else knows who was told."""

    def __init__(self, shell: Shell, base: str, notify: str | None, names: list[str]) -> None:
        self._shell = shell
        self._base = base
        self._notify = notify
        self._names = list(dict.fromkeys(names))
        self._told: set[tuple[int, str]] = set()
        self._complaints: dict[int, str] = {}
        self._limit = anyio.CapacityLimiter(_AT_ONCE_MAX)

    async def run(self) -> None:
        """Look for asks until cancelled."""
        async with anyio.create_task_group() as tasks:
            while True:
                for ask in await self._pending():
                    for name in self._names:
                        if (ask.id, name) not in self._told:
                            self._told.add((ask.id, name))
                            tasks.start_soon(self._tell, ask.id, name)
                await anyio.sleep(_LOOK_S)

    async def _pending(self) -> list[Ask]:
        try:
            async with self._shell.looking() as kernel:
                pending = await kernel.asks()
        except AgentOSError as error:
            self._complain(0, f"the store cannot be looked at now: {error.message}")
            return []
        open_ids = {ask.id for ask in pending}
        self._told = {(ask, name) for ask, name in self._told if ask in open_ids}
        self._complaints = {ask: text for ask, text in self._complaints.items() if ask in open_ids}
        return pending

    async def _tell(self, ask: int, name: str) -> None:
        about, for_ = {"ask": ask, "for": name or "webhook"}, name or None
        try:
            async with self._limit, self._shell.looking() as kernel:
                if self._notify is None:
                    self._say({**about, "link": await kernel.ask_link(ask, base_url=self._base, for_=for_)})
                else:
                    self._say({**about, **await kernel.notify(ask, self._notify, base_url=self._base, for_=for_)})
        except Denied as error:
            self._complain(ask, f"ask {ask}: no link, {error.message}")
        except AgentOSError as error:
            self._told.discard((ask, name))  # settled, or the kernel is another by now: the next look tells
            self._complain(ask, f"ask {ask}: {error.message}")

    def _complain(self, ask: int, text: str) -> None:
        """Note what is wrong with an ask (0: with the store), not again while it stays the same."""
        if self._complaints.get(ask) != text:
            self._complaints[ask] = text
            self._shell.output.note(line(text))

    def _say(self, told: dict[str, Any]) -> None:
        if not self._shell.output.for_people:
            self._shell.output.emit_line(told)
        elif "link" in told:
            self._shell.output.say(f"ask {told['ask']}  for {told['for']}  {told['link']}")
        else:
            came = "told" if told["delivered"] else f"not told: {told['why'] or told['status']}"
            self._shell.output.say(f"ask {told['ask']}  for {told['for']}  {came}")
