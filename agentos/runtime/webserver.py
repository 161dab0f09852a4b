"""An HTTP server for an ASGI app, from the extra ``web``.

Not here: TLS, which is a proxy's or a tunnel's; and a log of addresses, which would keep links.
"""

from __future__ import annotations

import socket
from typing import Any, Final

from agentos.errors import Invalid, Unavailable

__all__ = ["bound", "check_installed", "serve"]

_CONNECTIONS_MAX: Final = 64
_HEAD_BYTES_MAX: Final = 16 * 1024
_GRACE_S: Final = 2


def check_installed() -> None:
    """Return when there is a server.

    Raises:
        Unavailable: `unavailable.missing`, the extra ``web`` is not installed.
    """
    try:
        import uvicorn  # noqa: F401, PLC0415 - an extra
    except ImportError as error:
        hint = 'install the extra `web`: pip install "agentos-kernel[web]"'
        raise Unavailable("missing", "serving needs uvicorn, which is not installed", hint=hint) from error


def bound(host: str, port: int) -> socket.socket:
    """Return a socket that is bound and not yet listening; port 0 is any that is free.

    Raises:
        Invalid: `invalid.argument`, it cannot be bound.
    """
    try:
        family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        # TCP has to be named: the event loop turns delays off only for sockets that say so, and every answer would wait 40 ms
        made = socket.socket(family, kind, socket.IPPROTO_TCP)
        try:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            made.bind(address)
        except BaseException:
            made.close()
            raise
    except (OSError, OverflowError, UnicodeError) as error:
        reason = str(getattr(error, "strerror", None) or error).lower()
        raise Invalid("argument", f"{host} port {port}: {reason}", hint="use another --host or --port", field="host") from error
    return made


async def serve(app: Any, listening: socket.socket) -> None:
    """Serve an app on a bound socket until cancelled or interrupted; the socket is closed.

    Cancellation: requests under way get two seconds.
    """
    import uvicorn  # noqa: PLC0415 - an extra; `check_installed` was called

    config = uvicorn.Config(
        app, log_config=None, access_log=False, lifespan="off", ws="none", http="h11", server_header=False, proxy_headers=False,
        limit_concurrency=_CONNECTIONS_MAX, timeout_graceful_shutdown=_GRACE_S, h11_max_incomplete_event_size=_HEAD_BYTES_MAX,
    )  # fmt: skip
    with listening:
        await uvicorn.Server(config).serve(sockets=[listening])
