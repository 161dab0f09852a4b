"""A bound on what a server may send: bytes are counted as they come, so an answer without end takes no more memory than that.

Compressed answers are refused, because a few bytes of those can be gigabytes. A redirect is an answer like any other: a conversation goes
to the server that the host named, and to no other that this one names.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from functools import cache
from typing import TYPE_CHECKING, Any

from agentos.abi.limits import MODEL_REPLY_BYTES_MAX
from agentos.abi.model import model_failed
from agentos.errors import Unavailable

if TYPE_CHECKING:
    from httpx2 import AsyncByteStream, AsyncClient, Response

__all__ = ["bounded_client"]


def bounded_client() -> AsyncClient:
    """Return an HTTP client, as the openai client would make it, whose answers are bounded."""
    from openai import DefaultAsyncHttpxClient  # noqa: PLC0415 - takes half a second

    hooks, headers = {"response": [_bound]}, {"accept-encoding": "identity"}
    return DefaultAsyncHttpxClient(event_hooks=hooks, headers=headers, follow_redirects=False)


async def _bound(response: Response) -> None:  # noqa: ASYNC124 - the client awaits its hooks
    encoding = response.headers.get("content-encoding", "identity")
    if encoding != "identity":
        raise model_failed("reply", f"the server sent its answer as `{encoding[:40]}`", hint="it was asked for plain bytes")
    length = response.headers.get("content-length", "")
    if length.isdigit() and int(length[:20]) > MODEL_REPLY_BYTES_MAX:
        raise _too_large()
    response.stream = _counted()(response.stream)


def _too_large() -> Unavailable:
    return model_failed("reply", f"the server's answer has over {MODEL_REPLY_BYTES_MAX} bytes", hint="bound it with tokens_max")


@cache
def _counted() -> Any:
    from httpx2 import AsyncByteStream  # noqa: PLC0415 - as above

    class Counted(AsyncByteStream):
        """The bytes of an answer, up to the bound."""

        def __init__(self, stream: AsyncByteStream) -> None:
            self._stream = stream

        async def __aiter__(self) -> AsyncIterator[bytes]:
            count = 0
            async for data in self._stream:
                count += len(data)
                if count > MODEL_REPLY_BYTES_MAX:
                    raise _too_large()
                yield data

        async def aclose(self) -> None:
            await self._stream.aclose()

    return Counted
