"""`open_sync`: the same API for synchronous code, and a way out of every wait."""

from __future__ import annotations

import inspect
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from agentos.abi.image import AgentImage
from agentos.devices.app import Device
from agentos.errors import Denied, Invalid, KernelPanic
from agentos.runtime.boot import Open
from agentos.runtime.kernel import Kernel
from agentos.runtime.process import Process
from agentos.runtime.sync import SyncKernel, SyncProcess, open_sync
from tests.room.runtime.control_builders import FILES, Place, a_place


@pytest.fixture
def place() -> Iterator[Place]:
    with a_place() as made:
        yield made


@pytest.fixture
def kernel(place: Place) -> Iterator[SyncKernel]:
    with open_sync(place.store, workspace=place.workspace, durability="fast") as opened:
        yield opened


def later(what: Callable[[], Any], delay_s: float = 0.1) -> threading.Timer:
    timer = threading.Timer(delay_s, what)
    timer.start()
    return timer


def interrupt() -> None:
    os.kill(os.getpid(), signal.SIGINT)


@pytest.fixture
def ctrl_c() -> Iterator[None]:
    """Python's own handler: a test run in the background inherits a SIGINT that is ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize(("here", "there"), [(Kernel, SyncKernel), (Process, SyncProcess)])
def test_every_method_is_there_with_its_words(here: type, there: type) -> None:
    for name, member in vars(here).items():
        if not name.startswith("_"):
            assert vars(there)[name].__doc__ == member.__doc__
    assert str(inspect.signature(SyncKernel.spawn)).startswith("(self, image: 'str | Path | AgentImage', *, goal")
    assert inspect.signature(SyncKernel.spawn).return_annotation == "SyncProcess"
    assert inspect.signature(SyncKernel.audit).return_annotation == "Iterator[Entry]"
    assert list(inspect.signature(open_sync).parameters) == list(inspect.signature(Open).parameters)


def test_a_process_lives_through_blocking_calls(kernel: SyncKernel) -> None:
    process = kernel.spawn(FILES, goal="one")
    assert isinstance(process, SyncProcess)
    assert process.call("fs.write", path="/a", text="hi")["bytes"] == 2
    assert [outcome.value for outcome in process.calls([("fs.read", {"path": "/a"})])] == ["hi"]
    child = kernel.spawn(AgentImage.host(), parent=process)
    assert [info.pid for info in kernel.tree()] == [process.pid, child.pid]
    assert (process.info.goal, process.usage["calls"]) == ("one", 2)
    assert kernel.process(process.pid).fork().pid == 3
    assert kernel.check(process.pid, "fs.read", path="/a").outcome == "allow"
    process.exit(7)
    assert process.wait().value == 7
    assert [entry.op for entry in kernel.audit()] == ["fs.write", "fs.read"]


def test_errors_are_unchanged(kernel: SyncKernel) -> None:
    process = kernel.spawn(AgentImage.host())
    with pytest.raises(Denied) as caught:
        process.call("fs.read", path="/a")
    assert caught.value.seq is not None
    with pytest.raises(TimeoutError):
        process.wait(timeout_s=0.01)
    with pytest.raises(Invalid, match="no process 9"):
        kernel.process(9)
    with pytest.raises(Invalid, match="no mode"):
        open_sync(mode="loud")


def test_a_held_store_is_refused_at_the_door(kernel: SyncKernel, place: Place) -> None:
    with pytest.raises(Invalid, match="is held by process"), open_sync(place.store, workspace=place.workspace):
        pass


def test_a_stream_is_a_plain_iterator(kernel: SyncKernel) -> None:
    process = kernel.spawn(FILES)
    later(lambda: (process.call("clock.now"), process.exit()))
    assert [event.kind for event in process.stream()][-1] == "exited"


def test_a_stream_closed_early_lets_go_of_what_it_held(kernel: SyncKernel) -> None:
    events = kernel.events(since=0)
    assert next(events).kind == "boot"
    core = kernel._target.core
    assert len(core.events._streams) == 1
    assert open_receivers(core) == 1
    events.close()
    assert open_receivers(core) == 0
    assert list(events) == []
    with kernel.events(since=0) as more:
        next(more)
    assert open_receivers(core) == 0


def test_a_stream_that_is_dropped_is_closed(kernel: SyncKernel) -> None:
    for event in kernel.events(since=0):
        assert event.kind == "boot"
        break
    core = kernel._target.core
    until = time.monotonic() + 5
    while open_receivers(core) and time.monotonic() < until:
        time.sleep(0.005)
    assert open_receivers(core) == 0


def open_receivers(core: Any) -> int:
    return sum(stream.statistics().open_receive_streams for stream in core.events._streams)


@pytest.mark.usefixtures("ctrl_c")
def test_a_blocked_caller_can_always_leave_with_ctrl_c_and_the_kernel_goes_on(kernel: SyncKernel) -> None:
    process = kernel.spawn(FILES)
    later(interrupt)
    with pytest.raises(KeyboardInterrupt):
        process.wait()
    events = kernel.events()
    later(interrupt)
    with pytest.raises(KeyboardInterrupt):
        next(events)
    assert process.info.state == "ready"
    process.exit(1)
    assert process.wait().value == 1


def test_leaving_the_block_ends_the_calls_of_other_threads(place: Place) -> None:
    raised: list[BaseException] = []

    def wait(process: SyncProcess) -> None:
        try:
            process.wait()
        except Invalid as error:
            raised.append(error)

    with open_sync(place.store, workspace=place.workspace, durability="fast") as kernel:
        waiting = threading.Thread(target=wait, args=(kernel.spawn(FILES),))
        waiting.start()
        time.sleep(0.1)
    waiting.join(5)
    assert [str(error) for error in raised] == ["invalid.state: the kernel is closed"]
    with pytest.raises(Invalid, match="the kernel is closed"):
        kernel.ps()


def test_an_error_in_the_block_is_raised_as_it_is(place: Place) -> None:
    with pytest.raises(ZeroDivisionError), open_sync(place.store, workspace=place.workspace, durability="fast"):
        raise ZeroDivisionError


def test_a_panic_ends_every_call_and_is_raised(place: Place) -> None:
    async def fail(_process: Any) -> None:
        raise KernelPanic("broken")

    def wait_for_the_end() -> None:
        with open_sync(place.store, workspace=place.workspace, durability="fast") as kernel:
            process = kernel.spawn(FILES)
            kernel._target.core.run_process = fail
            kernel.spawn(AgentImage.program("doomed"))
            with pytest.raises(Invalid, match="the kernel is closed"):
                process.wait()

    with pytest.raises(KernelPanic, match="broken"):
        wait_for_the_end()


def test_many_threads_share_one_kernel(kernel: SyncKernel) -> None:
    process = kernel.spawn(FILES)
    threads = [threading.Thread(target=lambda: [process.call("clock.now") for _ in range(20)]) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert process.usage["calls"] == 160


def test_a_blocking_call_in_the_kernels_own_thread_is_refused_and_not_waited_for(place: Place) -> None:
    app = Device("app")
    found: list[Any] = []

    @app.op(effect="repeatable")
    async def nest() -> int:
        try:
            found[0].ps()
        except Invalid as error:
            found.append(error.message)
        return 1

    with open_sync(place.store, workspace=place.workspace, durability="fast", devices={"app": app}) as kernel:
        found.append(kernel)
        assert kernel.spawn(AgentImage.host(capabilities=["app.nest"])).call("app.nest") == 1
    assert "would wait for itself" in found[1]
