"""`run`: one prompt, some tools, one answer; the kernel is opened for it and closed after it.

    tools     functions become the device `tools`, devices are mounted, names of ops are shown; whatever is offered may be called
    image     what the model is, sees and may do, as an immutable value; its digest and the prompt say which process goes on after a crash
    answer    the text, or the instance of `result` that it describes

Nobody is there to ask, so what would be asked is denied, and the model is told. This adds no right of its own: it is `open`, `spawn` and
`wait`, for the case that needs no more.
"""

from __future__ import annotations

import functools
import os
import re
import tempfile
from collections.abc import Callable, Coroutine, Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, ParamSpec, TypeVar

import anyio
import msgspec

from agentos.abi.codec import to_json
from agentos.abi.image import AgentImage
from agentos.abi.limits import GRACE_S
from agentos.abi.manifest import Tool
from agentos.abi.values import ErrorData, Exit, ProcessInfo
from agentos.devices.app import Device
from agentos.devices.llm.profile import driver_from, with_profiles
from agentos.errors import AgentOSError, Invalid, Unavailable, from_data
from agentos.models import scripted
from agentos.runtime.boot import Open
from agentos.runtime.kernel import Kernel
from agentos.runtime.process import Process

__all__ = ["arun", "run"]

P = ParamSpec("P")
T = TypeVar("T")

_DEVICE: Final = "tools"
_INSTRUCTIONS: Final = (
    "You do one task for a program that calls you. Nobody can answer questions. Your answer is used as it is."
)
_LOOKING: Final = "fs.read, fs.list, fs.stat"
_OPS: Final = re.compile(r"\s*[A-Za-z_][\w.*]*(?:\s*,\s*[A-Za-z_][\w.*]*)*")
_GRACE_S: Final = 0.2  # of a run whose store goes with it


async def arun(  # noqa: PLR0913 - the frozen API
    prompt: str,
    *,
    tools: Iterable[Any] = (),
    model: Any = None,
    result: Any = None,
    instructions: str | None = None,
    image: AgentImage | str | Path | None = None,
    workspace: str | Path | None = None,
    store: str | Path | None = None,
    policy: Any = None,
    budget: dict[str, Any] | None = None,
    secrets: Mapping[str, Any] | None = None,
    mode: str = "noninteractive",
    timeout_s: float | None = None,
) -> Any:
    """Have a model do one thing, and return its answer.

    Args:
        prompt: What it is asked to do; trusted text.
        tools: What it may call, all of it: functions (sync ones run in threads), ``(function, options)`` with the options of
            `Device.op`, devices, and texts such as ``"fs.read /docs/**"`` for built-in ops. A function that declares no effect is `once`:
            after a crash it is not repeated.
        model: A driver or profile (`agentos.models.openai(...)`, a `ScriptedModel`), a list of turns, the name of a profile,
            ``scripted:FILE``, ``replay:FILE`` or ``record:FILE``. None is the image's profile: the host's, by file or environment.
        result: What the answer has to be: a pydantic model, dataclass, TypedDict or any other type that pydantic understands, or a JSON
            schema, which gives plain data. None is a text.
        instructions: What the model is told about its work, before the prompt.
        image: An image in place of `instructions`; it keeps its own tools and capabilities beside those of `tools`.
        workspace: Folder that `fs` ops see as `/`; given alone, it may be read. None: no files, or the current folder where
            `tools` names fs ops.
        store: Where to keep the journal. The same prompt with the same tools goes on where an earlier call was killed. None: nothing is
            kept.
        policy: As for `agentos.open`.
        budget: As for `Kernel.spawn`.
        secrets: As for `agentos.open`.
        mode: As for `agentos.open`. With ``ask``, approvals wait for people who look into the store.
        timeout_s: Seconds after which it ends with `unavailable.timeout`.

    Raises:
        Denied, Unavailable, Invalid: what ended the process; a tool's errors are told to the model and end nothing.

    Cancellation: with a store, the process goes on the next time; without one it is gone.
    """
    made = _offer(tools)
    base = _image(image, instructions, made, reads=workspace is not None and not made.uses_files)
    models = _models(model, base.profile)
    adapter, schema = _shape(result)
    base = msgspec.structs.replace(base, result_schema=schema or base.result_schema)
    with ExitStack() as stack:
        folder = workspace or ("." if made.uses_files else stack.enter_context(tempfile.TemporaryDirectory(prefix="agentos-")))
        async with Open(
            ":memory:" if store is None else store, workspace=folder, devices=made.devices, models=models, policy=policy,
            secrets=secrets, mode=mode, resume=False, grace_s=_GRACE_S if store is None else GRACE_S,
        ) as kernel:  # fmt: skip
            process = await _unfinished(kernel, base, prompt)
            if process is None:
                process = await kernel.spawn(base, goal=prompt, budget=budget, deadline_s=timeout_s)
            end = await process.wait()
    return _answer(process.pid, end, adapter)


def _blocking(function: Callable[P, Coroutine[Any, Any, T]]) -> Callable[P, T]:
    """Return a coroutine function as a plain one with the same parameters."""

    @functools.wraps(function)
    def call(*args: P.args, **options: P.kwargs) -> T:
        if _in_event_loop():
            hint = "await `agentos.arun(...)`, or use `agentos.open`"
            raise Invalid("state", "`agentos.run` would block the event loop that calls it", hint=hint)
        return anyio.run(functools.partial(function, *args, **options))

    call.__name__ = call.__qualname__ = "run"
    return call


run = _blocking(arun)


def _in_event_loop() -> bool:
    try:
        anyio.get_current_task()
    except RuntimeError:
        return False
    return True


# --- what is offered --------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Offer:
    """What `tools` came to: devices to mount, patterns of ops that are shown, and the capabilities for them."""

    devices: dict[str, Device] = field(default_factory=dict)
    shown: list[str] = field(default_factory=list)
    caps: list[str] = field(default_factory=list)

    @property
    def uses_files(self) -> bool:
        return any(name.startswith(("fs.", "exec.")) or name == "*" for name in self.shown)

    def add(self, text: str) -> None:
        """Offer the ops of a capability text."""
        ops = _OPS.match(text)
        if ops is None:
            raise Invalid("argument", f"`{text}` names no op", hint='write for example "fs.read /docs/**"', field="tools")
        self.caps.append(text)
        self.shown += [name.strip() for name in ops[0].split(",")]

    def mount(self, device: Device) -> None:
        """Offer all ops of a device."""
        if device.name in self.devices:
            hint = "give one of them another name; functions are mounted as `tools`"
            raise Invalid("op", f"two devices are called `{device.name}`", hint=hint, field="tools")
        self.devices[device.name] = device
        self.add(f"{device.name}.*")


def _offer(tools: Iterable[Any]) -> _Offer:
    if isinstance(tools, str | Device) or callable(tools):
        tools = [tools]
    offer, functions = _Offer(), {}
    for tool in tools:
        if isinstance(tool, str):
            offer.add(tool)
        elif isinstance(tool, Device):
            offer.mount(tool)
        else:
            name = _name(tool[0] if isinstance(tool, tuple) and tool else tool)
            if name in functions:
                hint = "rename one of them"
                raise Invalid("op", f"two tools are called `{name}`", hint=hint, field="tools")
            functions[name] = tool
    if functions:
        offer.mount(Device.from_functions(_DEVICE, functions))
    return offer


def _name(function: Any) -> str:
    """Return the name by which a model knows a function."""
    inner = function.func if isinstance(function, functools.partial) else function
    name = getattr(inner, "__name__", "")
    if not callable(function) or not name:
        hint = "give functions, (function, options), devices, or texts such as `fs.read /docs/**`"
        raise Invalid("op", f"a `{type(function).__name__}` is no tool", hint=hint, field="tools")
    if name == "<lambda>":
        raise Invalid("op", "a lambda has neither name nor types", hint="write it with def, and annotate it", field="tools")
    return str(name)


def _image(image: AgentImage | str | Path | None, instructions: str | None, offer: _Offer, *, reads: bool) -> AgentImage:
    if reads:
        offer.add(_LOOKING)
    if image is None:
        image = AgentImage.from_dict({"name": "run", "prompt": {"text": instructions or _INSTRUCTIONS}})
        tools: tuple[Tool, ...] = (Tool("op", "obj.get"),)  # named, so that `human.ask` is not shown: nobody is there
    else:
        if instructions is not None:
            raise Invalid("argument", "an image has its own instructions", hint="leave one of them out", field="instructions")
        image = image if isinstance(image, AgentImage) else AgentImage.load(image)
        tools = image.tools
    if tools:
        tools = (*tools, *(Tool("op", name) for name in offer.shown))
    return msgspec.structs.replace(image, tools=tools, capabilities=(*image.capabilities, *offer.caps))


def _models(model: Any, profile: str) -> dict[str, Any] | None:
    """Return the models to open the kernel with: what was given stands in the place of the image's profile."""
    if isinstance(model, str):
        model = driver_from(model, with_profiles(None, os.environ))
    if isinstance(model, list | tuple):
        model = scripted(model)
    return None if model is None else {profile: model}


# --- going on ---------------------------------------------------------------------------------------------------------------


async def _unfinished(kernel: Kernel, image: AgentImage, prompt: str) -> Process | None:
    """Let the newest process that an earlier call of the same kind left unfinished go on; the store's other processes stay as they are.

    Raises:
        Invalid: `invalid.state`, it is paused, or waits for a person, and nobody is there.
    """
    for info in reversed(await kernel.ps()):
        if not info.ppid and info.digest == image.digest and info.goal == prompt:
            tree = await kernel.tree(info.pid)
            await _expect_able(kernel, tree)
            for each in tree:
                await kernel.process(each.pid).signal("resume")
            return kernel.process(info.pid)
    return None


async def _expect_able(kernel: Kernel, tree: list[ProcessInfo]) -> None:
    pids = {info.pid for info in tree}
    for info in tree:
        if info.state == "paused":
            hint = "see `agentos ps`; `agentos resume` lets it go on"
            raise Invalid("state", f"process {info.pid} of an earlier call is paused", hint=hint, pid=info.pid)
    for ask in await kernel.asks() if kernel.core.mode == "noninteractive" else ():
        if ask.pid in pids:
            hint = f'answer it with `agentos approve {ask.id}` or `agentos deny {ask.id}`, or run it with mode="ask"'
            said = f"process {ask.pid} of an earlier call waits for a person"
            raise Invalid("state", said, hint=hint, pid=ask.pid, ask=ask.id)


# --- the answer -------------------------------------------------------------------------------------------------------------


def _shape(result: Any) -> tuple[Any, dict[str, Any] | None]:
    """Return what makes an instance of the answer, and the JSON schema that the model is given.

    Raises:
        Invalid: `invalid.argument`, pydantic has no schema for it.
    """
    if result is None or result is str:
        return None, None
    if isinstance(result, Mapping):
        return None, dict(result)
    from pydantic import TypeAdapter  # noqa: PLC0415 - heavy, and only needed where a result is typed
    from pydantic.errors import PydanticUserError  # noqa: PLC0415 - as above

    try:
        adapter: Any = TypeAdapter(result)
        return adapter, adapter.json_schema()
    except (PydanticUserError, NameError) as error:
        said = str(error).partition("\n")[0]
        hint = "give a pydantic model, a dataclass, a TypedDict or a JSON schema"
        raise Invalid("argument", f"`{result!r}` describes no result: {said}", hint=hint, field="result") from error


def _answer(pid: int, end: Exit, adapter: Any) -> Any:
    if end.state != "exited":
        raise _error(pid, end)
    if adapter is None:
        return end.value
    try:
        return adapter.validate_json(to_json(end.value))
    except ValueError as error:
        first = error.errors()[0] if hasattr(error, "errors") else {"loc": (), "msg": str(error)}
        where = ".".join(map(str, first["loc"])) or "result"
        hint = "say in the schema what a validator wants, so that the model is told"
        raise Invalid("argument", f"the answer is refused by its type: {first['msg']}", hint=hint, field=where) from error


def _error(pid: int, end: Exit) -> AgentOSError:
    """Return the error that ended a process."""
    error = end.error or ErrorData("unavailable.cancelled", f"process {pid} was {end.state}", "it did nothing wrong")
    if error.code == "exception":
        return Unavailable(
            "device", f"process {pid} failed: {error.type}: {error.message}", hint="see the traceback in the log", pid=pid
        )
    return from_data({"code": error.code, "message": error.message, "hint": error.hint, "fields": {**error.fields, "pid": pid}})
