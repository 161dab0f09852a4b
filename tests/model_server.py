"""An OpenAI-compatible server on loopback, for tests: it answers Chat Completions and embeddings, and misbehaves, as it is told.

Real HTTP on a real socket, in threads of this process; the real client talks to it.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

__all__ = ["Answer", "ModelServer", "Served", "serving"]


@dataclass(frozen=True, slots=True)
class Answer:
    """What the server does with one request.

    Attributes:
        text: What the model says.
        calls: Tools that it calls, as (name, arguments); arguments that are a text are sent as they are.
        finish: Reason to finish; None is what fits.
        status: HTTP status.
        headers: Further headers.
        body: Sent in place of an answer.
        refusal: What the model says in declining.
        usage: False leaves the usage out.
        delay_s: Before the first byte.
        piece_delay_s: Between streamed pieces.
        cut_after: Streamed pieces after which the connection is dropped.
        pieces: Streamed pieces that the text is cut into.
    """

    text: str = ""
    calls: Sequence[tuple[str, Any]] = ()
    finish: str | None = None
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: str | None = None
    refusal: str | None = None
    usage: bool = True
    delay_s: float = 0
    piece_delay_s: float = 0
    cut_after: int | None = None
    pieces: int = 4


@dataclass(frozen=True, slots=True)
class Served:
    """One request that came: its path, its JSON, its key and when."""

    path: str
    json: dict[str, Any]
    key: str
    at: float


Script = Callable[[Served], Answer]


class ModelServer:
    """The running server, at a port that is free, or at `port`.

    Attributes:
        url: What a client has as its base URL.
        requests: Every request so far.
        open_now: Connections under way; `open_max`: the most there were.
    """

    def __init__(self, script: Script | Sequence[Answer], *, port: int = 0) -> None:
        self._script = script
        self._lock = threading.Lock()
        self.requests: list[Served] = []
        self.open_now = self.open_max = 0
        owner = self

        class Handler(_Handler):
            server_of = owner

        self._http = _Listener(("127.0.0.1", port), Handler)
        self._http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._http.server_address[1]}/v1"
        self._thread = threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop."""
        self._http.shutdown()
        self._http.server_close()
        self._thread.join(5)

    def take(self, served: Served) -> Answer:
        """Note a request and say what becomes of it; past the end of a list the model says ``done``."""
        with self._lock:
            self.requests.append(served)
            at = len(self.requests) - 1
        if callable(self._script):
            return self._script(served)
        return self._script[at] if at < len(self._script) else Answer("done")

    @contextmanager
    def busy(self) -> Iterator[None]:
        """Count a request that is under way."""
        with self._lock:
            self.open_now += 1
            self.open_max = max(self.open_max, self.open_now)
        try:
            yield
        finally:
            with self._lock:
                self.open_now -= 1


@contextmanager
def serving(script: Script | Sequence[Answer] = ()) -> Iterator[ModelServer]:
    """Run a server for a while."""
    server = ModelServer(script)
    try:
        yield server
    finally:
        server.close()


class _Listener(ThreadingHTTPServer):
    request_queue_size = 128  # of connections not yet taken; of more, some would wait a second

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing about a client that was killed."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # else head and body wait 40 ms for each other
    server_of: ModelServer

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name of the base class
        pass

    def do_POST(self) -> None:
        length = int(self.headers.get("content-length", 0))
        body = self.rfile.read(length)
        if len(body) < length:
            self.close_connection = True  # the client was killed while it asked
            return
        key = self.headers.get("authorization", "").removeprefix("Bearer ")
        served = Served(self.path, json.loads(body), key, time.monotonic())
        with self.server_of.busy():
            answer = self.server_of.take(served)
            time.sleep(answer.delay_s)
            try:
                self._answer(served, answer)
            except OSError:
                self.close_connection = True  # the client went away, as it may

    def _answer(self, served: Served, answer: Answer) -> None:
        if answer.body is not None or answer.status != 200:
            text = (
                answer.body
                if answer.body is not None
                else json.dumps({"error": {"message": answer.text or "no", "type": "error"}})
            )
            self._send(answer, text.encode(), "application/json" if text[:1] in "{[" else "text/html")
        elif served.path.endswith("/embeddings"):
            data = [
                {"object": "embedding", "index": at, "embedding": [float(len(t)), 1.0]}
                for at, t in enumerate(served.json["input"])
            ]
            self._send(answer, _json({"object": "list", "data": data, "model": "m", "usage": _usage()}), "application/json")
        elif served.json.get("stream"):
            self._stream(served, answer)
        else:
            self._send(answer, _json(_completion(served, answer)), "application/json")

    def _send(self, answer: Answer, body: bytes, kind: str) -> None:
        self.send_response(answer.status)
        for name, value in {"content-type": kind, "content-length": str(len(body)), **answer.headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def _stream(self, served: Served, answer: Answer) -> None:
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        for at, piece in enumerate(_pieces(served, answer)):
            if answer.cut_after is not None and at >= answer.cut_after:
                self.close_connection = True
                self.connection.shutdown(2)
                return
            self._chunk(f"data: {json.dumps(piece)}\n\n".encode())
            time.sleep(answer.piece_delay_s)
        self._chunk(b"data: [DONE]\n\n")
        self._chunk(b"")

    def _chunk(self, data: bytes) -> None:
        self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
        self.wfile.flush()


def _json(value: Any) -> bytes:
    return json.dumps(value).encode()


def _usage() -> dict[str, Any]:
    details = {"cached_tokens": 2}
    return {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15, "prompt_tokens_details": details}


def _tool_calls(answer: Answer) -> list[dict[str, Any]]:
    return [
        {
            "id": f"call_{at}",
            "type": "function",
            "function": {"name": name, "arguments": args if isinstance(args, str) else json.dumps(args)},
        }
        for at, (name, args) in enumerate(answer.calls, 1)
    ]


def _finish(answer: Answer) -> str:
    return answer.finish or ("tool_calls" if answer.calls else "stop")


def _completion(served: Served, answer: Answer) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": answer.text or None, "refusal": answer.refusal}
    if answer.calls:
        message["tool_calls"] = _tool_calls(answer)
    choice = {"index": 0, "message": message, "finish_reason": _finish(answer), "logprobs": None}
    made = {"id": "c", "object": "chat.completion", "created": 1, "model": served.json["model"], "choices": [choice]}
    return {**made, "usage": _usage()} if answer.usage else made


def _pieces(served: Served, answer: Answer) -> Iterator[dict[str, Any]]:
    """Yield the chunks of a streamed answer: text in pieces, each tool call in three, the finish, the usage."""

    def chunk(delta: dict[str, Any], finish: str | None = None) -> dict[str, Any]:
        choice = {"index": 0, "delta": delta, "finish_reason": finish}
        return {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": served.json["model"], "choices": [choice]}

    size = max(-(-len(answer.text) // answer.pieces), 1)
    for start in range(0, len(answer.text), size):
        yield chunk({"content": answer.text[start : start + size]})
    if answer.refusal:
        yield chunk({"refusal": answer.refusal})
    for at, call in enumerate(_tool_calls(answer)):
        function, half = call["function"], len(call["function"]["arguments"]) // 2
        head = {"index": at, "id": call["id"], "type": "function", "function": {"name": function["name"], "arguments": ""}}
        yield chunk({"tool_calls": [head]})
        for part in (function["arguments"][:half], function["arguments"][half:]):
            yield chunk({"tool_calls": [{"index": at, "function": {"arguments": part}}]})
    yield chunk({}, _finish(answer))
    if answer.usage and (served.json.get("stream_options") or {}).get("include_usage"):
        yield {**chunk({}), "choices": [], "usage": _usage()}
