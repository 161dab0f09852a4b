"""`agentos serve --asks` as a process of its own: told, killed, started again, and the answer arrives all the same."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.cli_place import Place, a_place
from tests.room.runtime.webhook_builders import Answered, an_endpoint, fetch

pytest.importorskip("uvicorn")
pytestmark = pytest.mark.slow


@contextmanager
def serving(place: Place, *words: object) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The verb in a process of its own, and the address it says."""
    process = place.start("serve", "--asks", *words)
    try:
        assert process.stderr is not None
        first = process.stderr.readline()
        assert " at http://" in first, first + process.stderr.read()
        yield process, first.rpartition(" ")[2].strip()
    finally:
        process.kill()
        process.communicate(timeout=10)


def until(fits: Any) -> Any:
    """Wait for what another process does."""
    end = time.monotonic() + 10
    while not (found := fits()):
        assert time.monotonic() < end, "it did not come"
        time.sleep(0.02)
    return found


def decide(link: str, decision: str, **typed: str) -> Answered:
    page = until(lambda: _page(link))
    base = link.partition("/asks/")[0]
    return fetch(link, {**page.fields, **typed, "decision": decision}, "POST", Origin=base)


def _page(link: str) -> Answered | None:
    try:
        return fetch(link)
    except OSError:
        return None


def link_in(body: bytes) -> str:
    link: str = json.loads(body)["link"]
    return link


def a_free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def test_an_answer_arrives_though_the_server_was_killed_after_it_told(tmp_path: Path) -> None:
    place, port = a_place(tmp_path), a_free_port()
    place.call("run", "careful.yaml", "--yes", status=4)
    with an_endpoint() as endpoint:
        with serving(place, "--port", port, "--notify", endpoint.url, "--for", "ann") as (server, _):
            until(lambda: endpoint.came)
            server.send_signal(signal.SIGKILL)
            server.wait()
        link = link_in(endpoint.came[0][1])
        assert link.startswith(f"http://127.0.0.1:{port}/asks/")
        with serving(place, "--port", port, "--for", "ann", "-o", "jsonl") as (server, _):
            assert decide(link, "approve", reason="go on").status == 200
            assert decide(link, "deny").status == 410
            server.send_signal(signal.SIGINT)
            _, said = server.communicate(timeout=10)
            assert (server.returncode, "Traceback" in said) == (130, False)
    place.run("run", "careful.yaml", "--yes")
    assert (place.work / "out.txt").read_text() == "done"
    assert [each["answer"]["by"] for each in place.json("asks", "--all")] == ["ann"]


def test_a_running_kernel_is_reached_over_its_socket_and_goes_on_at_once(tmp_path: Path) -> None:
    place = a_place(tmp_path)
    (place.folder / "both.yaml").write_text(
        "agentos: 1\nname: both\nprogram: {kind: python, name: both}\ncapabilities: [fs.write /**, clock.sleep]\npolicy: careful.policy\n"
    )
    (place.folder / "careful.policy").write_text('policy "careful"\nask fs.write "/**"\nallow clock.* any *\n')
    (place.folder / "both.py").write_text(
        "import agentos\n\n@agentos.program('both')\nasync def both(sys):\n    await sys.gather(\n"
        "        sys.fs.write('/out.txt', 'done'), sys.clock.sleep(60))\n    return 'both'\n"
    )
    running = place.start("run", "both.yaml", "--program", "both.py", "--yes")
    try:
        until(lambda: place.data("asks") if any(tmp_path.rglob("store.db")) else None)
        with serving(place, "-o", "jsonl") as (server, _):
            assert server.stdout is not None
            told = json.loads(server.stdout.readline())
            assert (told["ask"], told["for"]) == (1, "webhook")
            assert decide(told["link"], "approve").status == 200
            until((place.work / "out.txt").exists)
            assert running.poll() is None, "the kernel that holds the store went on by itself"
    finally:
        running.kill()
        running.communicate(timeout=10)


def test_what_is_served_leads_nowhere_that_can_be_read_on_the_way(tmp_path: Path) -> None:
    place = a_place(tmp_path)
    place.call("run", "careful.yaml", "--yes", status=4)
    for words, said in (
        ((), "say --asks"), (("--asks", "--host", "0.0.0.0"), "--public-url"),
        (("--asks", "--public-url", "http://a.example"), "use https"),
        (("--asks", "--notify", "http://a.example"), "use https"), (("--asks", "--port", "70000"), "65535"),
        (("--asks", "-o", "json"), "-o jsonl"), (("--asks", "--host", "no such host"), "--public-url"),
    ):  # fmt: skip
        done = place.call("serve", *words, status=2)
        assert said in done.stderr + done.stdout, words
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        assert "in use" in place.call("serve", "--asks", "--port", taken.getsockname()[1], status=2).stderr


def test_a_person_who_may_not_answer_gets_no_link(tmp_path: Path) -> None:
    place = a_place(tmp_path)
    code = (
        "import anyio, agentos, sys\n"
        "async def main():\n"
        "    async with agentos.open(sys.argv[1], workspace='work', people={'ann': ['fs.write /**']}, "
        "policy='policy \"p\"\\nask fs.write any *') as kernel:\n"
        "        process = await kernel.spawn(agentos.Image.host(capabilities=['fs.write /**']))\n"
        "        print('up', flush=True)\n"
        "        print(await process.call('fs.write', path='/a', text='x'))\n"
        "anyio.run(main)\n"
    )
    store = tmp_path / "s.db"
    kernel = subprocess.Popen(
        [sys.executable, "-c", code, str(store)], cwd=place.folder, env=place.environment, stdout=subprocess.PIPE, text=True
    )
    try:
        assert kernel.stdout is not None
        assert kernel.stdout.readline() == "up\n"
        until(lambda: place.data("--store", store, "asks"))
        with serving(place, "--for", "bob", "--for", "ann", "-o", "jsonl", "--store", store) as (server, _):
            assert server.stdout is not None
            told = json.loads(server.stdout.readline())
            assert told["for"] == "ann"
            assert server.stderr is not None
            assert "`bob` may not answer this ask" in server.stderr.readline()
            assert decide(told["link"], "approve").status == 200
        assert kernel.wait(timeout=10) == 0
    finally:
        kernel.kill()
        kernel.communicate(timeout=10)


def test_without_the_extra_the_verb_says_which(tmp_path: Path) -> None:
    place = a_place(tmp_path)
    place.call("run", "careful.yaml", "--yes", status=4)
    (tmp_path / "shadow").mkdir()
    (tmp_path / "shadow" / "uvicorn.py").write_text("raise ImportError('not installed')\n")
    environment = place.environment
    environment["PYTHONPATH"] = os.pathsep.join([str(tmp_path / "shadow"), environment["PYTHONPATH"]])
    done = subprocess.run(
        place.words("serve", "--asks"), cwd=place.folder, env=environment, capture_output=True, text=True, check=False
    )
    assert (done.returncode, 'pip install "agentos-kernel[web]"' in done.stderr) == (1, True)
