"""Secrets: sent where a capability says, seen by nobody inside, scrubbed when they come back."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

import agentos
from agentos.errors import Denied, Invalid
from agentos.runtime.kernel import Kernel
from agentos.runtime.process import Process
from tests.builders import alive, crash, host, opened, refused, rows, settled, started

pytestmark = pytest.mark.anyio

VALUE = 'tok/"e+n\\ 7391é'
OTHER = "other-value-42"
SECRETS = {"GITHUB": VALUE, "OTHER": OTHER}
SPELLED: dict[str, Callable[[str], str]] = {
    "plain": str,
    "within": lambda text: f"you sent {text}, thanks",
    "url": lambda text: quote(text, safe=""),
    "json": lambda text: json.dumps({"auth": text}),
    "base64": lambda text: base64.b64encode(text.encode()).decode(),
    "basic": lambda text: base64.b64encode(f"user:{text}:x".encode()).decode(),
    "hex": lambda text: text.encode().hex(),
}


def api() -> tuple[agentos.Device, list[Any]]:
    """A device that keeps what it was sent and sends it back in the way that it is asked to."""
    device, got = agentos.Device("api"), []

    @device.op(resource="{url}", kind="url", effect="once", sinks=("url",))
    async def post(url: str, headers: dict[str, str] = {}, body: Any = None, spell: str = "") -> Any:  # noqa: B006
        got.append((url, headers, body))
        return {"echo": SPELLED[spell](str(body)), SPELLED[spell](str(body)): 1} if spell else "ok"

    @device.op(effect="once")
    async def fail(body: str) -> str:
        got.append(body)
        raise RuntimeError(f"401 for {body}")

    @device.op(effect="once")
    async def join(first: str, second: str) -> str:
        got.append(first + second)
        return "ok"

    @device.op(effect="repeatable")
    async def raw(body: bytes) -> bytes:
        got.append(body)
        return b"\xff\x00" + body

    return device, got


async def caller(kernel: Kernel, *grant: str) -> Process:
    return await host(kernel, "api.*", *grant)


FOR_API = 'secret.use GITHUB when op == "api.post" and host == "api.example"'
URL = "https://api.example/v1"


async def test_a_device_gets_the_value_and_the_journal_the_reference() -> None:
    device, got = api()
    async with opened(devices={"api": device}, secrets=SECRETS) as kernel:
        process = await caller(kernel, FOR_API)
        headers = {"Authorization": f"Bearer {agentos.Secret('GITHUB')}"}
        body = {"deep": [{"token": agentos.Secret("GITHUB")}], "n": 1}
        assert await process.call("api.post", url=URL, headers=headers, body=body) == "ok"
        assert got == [(URL, {"Authorization": f"Bearer {VALUE}"}, {"deep": [{"token": VALUE}], "n": 1})]
        assert b"{{secret:GITHUB}}" in rows(kernel, process.pid)[0].args


@pytest.mark.parametrize("spell", SPELLED)
async def test_secrets_stay_inside_whatever_way_they_come_back(spell: str, tmp_path: Path) -> None:
    device, got = api()
    async with opened(tmp_path / "a.db", devices={"api": device}, secrets=SECRETS) as kernel:
        process = await caller(kernel, FOR_API)
        echoed = await process.call("api.post", url=URL, body="{{secret:GITHUB}}", spell=spell)
        assert got[0][2] == VALUE
        assert "[secret GITHUB]" in str(echoed)
        assert SPELLED[spell](VALUE) not in str(echoed)
        assert VALUE not in str([entry async for entry in kernel.audit(pid=process.pid)])
    for file in tmp_path.iterdir():
        assert SPELLED[spell](VALUE).encode() not in file.read_bytes()


async def test_an_exception_with_the_value_says_only_its_name() -> None:
    device, got = api()
    async with opened(devices={"api": device}, secrets=SECRETS) as kernel:
        process = await caller(kernel, "secret.use OTHER")
        with pytest.raises(agentos.Unavailable) as caught:
            await process.call("api.fail", body="key={{secret:OTHER}}")
        assert got == [f"key={OTHER}"]
        error: BaseException | None = caught.value
        assert "[secret OTHER]" in str(error)
        assert OTHER not in repr((error, caught.value.fields, caught.value.hint, error.__cause__))
        assert OTHER.encode() not in rows(kernel, process.pid)[-1].result


async def test_bytes_are_filled_and_scrubbed_too() -> None:
    device, got = api()
    async with opened(devices={"api": device}, secrets=SECRETS) as kernel:
        process = await caller(kernel, "secret.use OTHER")
        back = await process.call("api.raw", body=b"\xfe{{secret:OTHER}}\x80")
        assert got == [b"\xfe" + OTHER.encode() + b"\x80"]
        assert back == b"\xff\x00\xfe[secret OTHER]\x80"


@pytest.mark.parametrize(
    "held",
    ["", "secret.use OTHER", 'secret.use GITHUB when op == "api.fail"', 'secret.use GITHUB when host == "evil.example"',
     'secret.use GITHUB when op == "api.post" and host == "api.example.evil.example"'],
)  # fmt: skip
async def test_secrets_need_a_right_for_their_op_and_host(held: str) -> None:
    device, got = api()
    async with opened(devices={"api": device}, secrets=SECRETS) as kernel:
        process = await caller(kernel, *([held] if held else []))
        assert await refused(process.call("api.post", url=URL, body="{{secret:GITHUB}}")) == "denied.capability"
        assert got == []


async def test_a_denial_drafts_the_grant_that_would_allow_the_secret() -> None:
    device, got = api()
    async with opened(devices={"api": device}, secrets=SECRETS) as kernel:
        process = await caller(kernel)
        with pytest.raises(Denied) as caught:
            await process.call("api.post", url=URL, body="{{secret:GITHUB}}")
        assert caught.value.request == 'secret.use GITHUB when op == "api.post" and host == "api.example" uses 1'
        await kernel.grant(process.pid, caught.value.request)
        assert await process.call("api.post", url=URL, body="{{secret:GITHUB}}") == "ok"
        assert await refused(process.call("api.post", url=URL, body="{{secret:GITHUB}}")) == "denied.capability"
        assert len(got) == 1


@pytest.mark.parametrize(
    ("policy", "code"),
    [('policy "p"\nallow api.post any *', "denied.policy"),
     ('policy "p"\nallow api.post any *\nallow secret.use when op == "api.post" any host', ""),
     ('policy "p"\nallow api.post any *\nallow secret.use any *\ndeny secret.use "GITHUB" unless host == "good.example"', "denied.policy"),
     ('restrict "r"\ndeny secret.use when host like "*.example"', "denied.policy"),
     ('restrict "r"\ndeny secret.use "OTHER"', "")],
)  # fmt: skip
async def test_a_policy_decides_where_a_secret_goes(policy: str, code: str) -> None:
    device, got = api()
    async with opened(devices={"api": device}, secrets=SECRETS, policy=policy) as kernel:
        process = await caller(kernel, "secret.use GITHUB")
        call = process.call("api.post", url=URL, body="{{secret:GITHUB}}")
        assert (await refused(call) if code else "") == code
        assert bool(got) is False if code else await call == "ok"


async def test_an_ask_for_a_secret_shows_the_reference_and_is_for_one_call() -> None:
    device, got = api()
    policy = 'policy "p"\nallow api.post any *\nask secret.use any *'

    async def send(sys: Any) -> Any:
        return await sys.api.post(URL, body="{{secret:GITHUB}}")

    async with opened(devices={"api": device}, secrets=SECRETS, policy=policy) as kernel:
        process = await started(kernel, send, "api.post", "secret.use GITHUB")
        await settled(kernel)
        [ask] = await kernel.asks()
        assert ask.args["body"] == "{{secret:GITHUB}}"
        assert VALUE not in repr(ask)
        with pytest.raises(Invalid):
            await kernel.answer(ask.id, "approve", by="me", scope="process")
        await kernel.answer(ask.id, "approve", by="me")
        assert (await process.wait(5)).value == "ok"
        assert got[0][2] == VALUE


async def test_limits_on_a_secret_count_the_calls_that_use_it() -> None:
    device, got = api()
    policy = 'policy "p"\nallow api.post any *\nallow secret.use any *\nlimit secret.use 1 per process'
    async with opened(devices={"api": device}, secrets=SECRETS, policy=policy) as kernel:
        process = await caller(kernel, "secret.use")
        await process.call("api.post", url=URL, body="{{secret:GITHUB}}")
        assert await refused(process.call("api.post", url=URL, body="{{secret:GITHUB}}")) == "denied.policy"
        assert await process.call("api.post", url=URL, body="nothing") == "ok"
        assert len(got) == 2


async def test_uses_of_a_secret_are_counted_and_a_revoked_right_is_gone() -> None:
    device, got = api()
    async with opened(devices={"api": device}, secrets=SECRETS) as kernel:
        process = await caller(kernel, "secret.use GITHUB uses 1")
        cap = await kernel.grant(process.pid, "secret.use OTHER")
        await process.call("api.post", url=URL, body="{{secret:GITHUB}} {{secret:OTHER}} {{secret:OTHER}}")
        assert got[0][2] == f"{VALUE} {OTHER} {OTHER}"
        assert await refused(process.call("api.post", url=URL, body="{{secret:GITHUB}}")) == "denied.capability"
        await kernel.revoke(cap)
        assert await refused(process.call("api.post", url=URL, body="{{secret:OTHER}}")) == "denied.capability"


async def test_a_missing_value_is_said_before_anything_happens_and_only_to_who_may_use_it() -> None:
    device, got = api()
    async with opened(devices={"api": device}, secrets=SECRETS) as kernel:
        process = await caller(kernel, "secret.use NONE")
        assert await refused(process.call("api.post", url=URL, body="{{secret:NONE}}")) == "invalid.argument"
        assert await refused(process.call("api.post", url=URL, body="{{secret:NIL}}")) == "denied.capability"
        assert got == []
        assert rows(kernel, process.pid)[0].kind == "call"


async def test_what_is_no_reference_is_not_resolved() -> None:
    device, got = api()
    async with opened(devices={"api": device}, secrets=SECRETS) as kernel:
        process = await caller(kernel, "secret.use")
        await process.call("api.join", first="{{sec", second="ret:GITHUB}}")
        assert got == ["{{secret:GITHUB}}"]
        for text in (
            "{{secret:GITHUB\n}}",
            "{{secret:github}}",
            "{{ secret:GITHUB }}",
            "{{secret:GITHUB}",
            "{{secret:" + "A" * 65 + "}}",
        ):
            await process.call("api.post", url=URL, body=text)
            assert got[-1][2] == text


async def test_a_value_that_looks_like_a_reference_is_not_resolved_again() -> None:
    device, got = api()
    async with opened(devices={"api": device}, secrets={"OUTER": "x{{secret:OTHER}}", "OTHER": OTHER}) as kernel:
        process = await caller(kernel, "secret.use")
        await process.call("api.post", url=URL, body="{{secret:OUTER}} {{secret:OTHER}}")
        assert got[0][2] == "x{{secret:OTHER}} " + OTHER


async def test_ops_inside_the_kernel_never_see_a_value() -> None:
    async with opened(secrets=SECRETS) as kernel:
        process = await host(kernel, "secret.use", "msg.send")
        await process.call("obj.put", value="{{secret:GITHUB}}", name="x")
        assert await process.call("obj.get", name="x") == "{{secret:GITHUB}}"
        await process.call("msg.send", to=process.pid, value="{{secret:GITHUB}}")
        assert (await process.call("msg.recv")).value == "{{secret:GITHUB}}"


async def test_using_a_secret_as_a_call_reveals_that_one_may_and_nothing_else() -> None:
    async with opened(secrets=SECRETS) as kernel:
        process = await host(kernel, "secret.use GITHUB")
        assert await process.call("secret.use", name="GITHUB", op="net.fetch") == {"name": "GITHUB", "may": True}
        assert await refused(process.call("secret.use", name="OTHER", op="net.fetch")) == "denied.capability"
        for name in ("GITHUB\n", "github", "", "*"):
            assert await refused(process.call("secret.use", name=name, op="x")) == "invalid.argument"


async def test_a_file_gets_a_value_only_where_a_capability_names_the_op(tmp_path: Path) -> None:
    async with opened(workspace=tmp_path, secrets=SECRETS) as kernel:
        process = await host(kernel, "fs.*", "secret.use OTHER")
        await process.call("fs.write", path="/a", text="use {{secret:OTHER}} here")
        assert (tmp_path / "a").read_text() == "use {{secret:OTHER}} here"
        await kernel.grant(process.pid, 'secret.use OTHER when op == "fs.write"')
        await process.call("fs.write", path="/a", text="use {{secret:OTHER}} here")
        assert (tmp_path / "a").read_text() == f"use {OTHER} here"
        assert await process.call("fs.read", path="/a") == "use [secret OTHER] here"


async def test_a_reference_cannot_stand_where_the_resource_is_named(tmp_path: Path) -> None:
    async with opened(workspace=tmp_path, secrets={"NAME": "../../outside"}) as kernel:
        process = await host(kernel, "fs.*", 'secret.use NAME when op in ["fs.write", "fs.read"]')
        assert await refused(process.call("fs.write", path="/{{secret:NAME}}", text="x")) == "invalid.argument"
        assert await refused(process.call("fs.read", path="/{{secret:NAME}}")) == "invalid.argument"


async def test_a_function_gives_the_value_at_each_use_and_its_failure_is_no_leak() -> None:
    device, got = api()
    values = iter(["first-value", "second-value", "short"])
    async with opened(devices={"api": device}, secrets={"TURNS": lambda: next(values)}) as kernel:
        process = await caller(kernel, "secret.use")
        for expected in ("first-value", "second-value"):
            await process.call("api.post", url=URL, body="{{secret:TURNS}}")
            assert got[-1][2] == expected
        echoed = await process.call("api.post", url=URL, body="first-value", spell="within")
        assert "first-value" not in str(echoed)
        for _ in range(2):
            assert await refused(process.call("api.post", url=URL, body="{{secret:TURNS}}")) == "unavailable.missing"


@pytest.mark.parametrize(
    "given", [{"A": "short"}, {"a": "long enough"}, {"A\n": "long enough"}, {"A": 7}, {"A": "nul\0nul\0"}, {"A": "\ud800" * 9}]
)
async def test_a_secret_that_could_not_be_kept_is_refused_when_the_kernel_opens(given: Any) -> None:
    with pytest.raises(Invalid):
        opened(secrets=given)


async def test_the_environment_gives_secrets_and_what_the_host_gives_comes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    device, got = api()
    monkeypatch.setenv("AGENTOS_SECRET_ENV", "from-the-environment")
    monkeypatch.setenv("AGENTOS_SECRET_BOTH", "from-the-environment")
    async with opened(devices={"api": device}, secrets={"BOTH": "from-the-host"}) as kernel:
        process = await caller(kernel, "secret.use")
        await process.call("api.post", url=URL, body="{{secret:ENV}} {{secret:BOTH}}")
        assert got[0][2] == "from-the-environment from-the-host"


async def test_a_child_has_no_secret_that_it_was_not_given() -> None:
    device, got = api()
    async with opened(devices={"api": device}, secrets=SECRETS) as kernel:
        parent = await caller(kernel, "secret.use")
        child = await kernel.spawn(
            agentos.Image.host(), parent=parent, grant=["api.*", 'secret.use OTHER when op == "api.fail"']
        )
        assert await refused(child.call("api.post", url=URL, body="{{secret:OTHER}}")) == "denied.capability"
        assert await refused(child.call("api.post", url=URL, body="{{secret:GITHUB}}")) == "denied.capability"
        assert not got
        assert alive(kernel, child).by_op["secret.use"]


async def test_a_redirect_to_a_host_that_the_secret_is_not_for_is_refused() -> None:
    device = agentos.Device("web")

    @device.op(resource="{url}", kind="url", effect="once", late={"redirect": str})
    async def get(ctx: agentos.Call, url: str, token: str, to: str) -> str:
        ctx.recheck("redirect", to)
        return "followed"

    async with opened(devices={"web": device}, secrets=SECRETS) as kernel:
        process = await host(kernel, "web.get", 'secret.use OTHER when host == "api.example"')
        call = {"url": URL, "token": "{{secret:OTHER}}"}
        assert await process.call("web.get", **call, to="https://api.example/2") == "followed"
        assert await refused(process.call("web.get", **call, to="https://evil.example/")) == "denied.capability"


def test_a_secret_is_text_that_names_it() -> None:
    assert agentos.Secret("GITHUB") == "{{secret:GITHUB}}"
    assert json.dumps([agentos.Secret("A")]) == '["{{secret:A}}"]'
    assert repr(agentos.Secret("A")) == "agentos.Secret('A')"
    for name in ("a", "A\n", "1A", "A" * 65, "", "A}}{{secret:B"):
        with pytest.raises(Invalid):
            agentos.Secret(name)


async def test_an_interrupted_call_gets_its_secret_again_and_pays_once(tmp_path: Path) -> None:
    device, got = agentos.Device("api"), []
    crash_now: list[Callable[[], None]] = []

    @device.op(effect="keyed")
    async def put(ctx: agentos.Call, body: str) -> str:
        got.append((ctx.key, body))
        for leave in crash_now:
            leave()
        return "ok"

    async def send(sys: Any) -> Any:
        return await sys.api.put("{{secret:OTHER}}")

    options: dict[str, Any] = {"devices": {"api": device}, "secrets": SECRETS, "programs": [agentos.program("send")(send)]}
    async with opened(tmp_path / "a.db", **options) as kernel:
        crash_now.append(lambda: crash(kernel, tmp_path / "a.db", tmp_path / "b.db"))
        process = await started(kernel, send, "api.put", "secret.use OTHER uses 1")
        await process.wait(5)
    crash_now.clear()
    async with opened(tmp_path / "b.db", **options) as kernel:
        assert (await kernel.process(process.pid).wait(5)).value == "ok"
    assert len(got) == 2
    assert got[0] == got[1]
    assert OTHER.encode() not in (tmp_path / "b.db").read_bytes()


async def test_a_right_that_was_revoked_during_a_crash_stops_the_rerun(tmp_path: Path) -> None:
    device, got = agentos.Device("api"), []
    crash_now: list[Callable[[], None]] = []

    @device.op(effect="repeatable")
    async def get(body: str) -> str:
        got.append(body)
        for leave in crash_now:
            leave()
        return "ok"

    async def fetch(sys: Any) -> Any:
        return await sys.api.get("{{secret:OTHER}}")

    options: dict[str, Any] = {"devices": {"api": device}, "secrets": SECRETS, "programs": [agentos.program("fetch")(fetch)]}
    async with opened(tmp_path / "a.db", **options) as kernel:
        crash_now.append(lambda: crash(kernel, tmp_path / "a.db", tmp_path / "b.db"))
        process = await started(kernel, fetch, "api.get", "secret.use OTHER")
        await process.wait(5)
    async with opened(tmp_path / "b.db", resume=False, **options) as kernel:
        [cap] = [cap.id for cap in await kernel.caps() if cap.ops == ("secret.use",)]
        await kernel.revoke(cap)
    crash_now.clear()
    async with opened(tmp_path / "b.db", **options) as kernel:
        ended = await kernel.process(process.pid).wait(5)
        assert ended.error is not None
        assert ended.error.code == "denied.capability"
    assert got == [OTHER]


async def test_a_written_file_is_known_again_by_its_real_content(tmp_path: Path) -> None:
    async with opened(workspace=tmp_path, secrets=SECRETS) as kernel:
        process = await host(kernel, "fs.write", 'secret.use OTHER when op == "fs.write"')
        await process.call("fs.write", path="/a", text="key {{secret:OTHER}}", key="one")
        assert (tmp_path / "a").read_text() == f"key {OTHER}"
        again = await process.call("fs.write", path="/a", text="key {{secret:OTHER}}", key="one")
        assert again["path"] == "/a"


async def test_two_calls_that_want_the_last_use_of_a_secret_get_it_once() -> None:
    device, got = api()
    async with opened(devices={"api": device}, secrets=SECRETS) as kernel:
        process = await caller(kernel, "secret.use uses 1")
        body = "{{secret:GITHUB}} {{secret:OTHER}}"
        assert await refused(process.call("api.post", url=URL, body=body)) == "denied.capability"
        assert got == []
        outcomes = await process.calls([("api.post", {"url": URL, "body": "{{secret:OTHER}}"})] * 2)
        assert sorted(outcome.ok for outcome in outcomes) == [False, True]
        assert len(got) == 1


async def test_a_policy_sees_where_in_the_call_a_reference_stands() -> None:
    device, got = api()
    policy = (
        'policy "p"\nallow secret.use any *\n'
        'allow api.post "https://api.example/**"\n'
        '  when headers.Authorization == "Bearer {{secret:GITHUB}}" and not body matches /.*secret:.*/'
    )
    async with opened(devices={"api": device}, secrets=SECRETS, policy=policy) as kernel:
        process = await caller(kernel, "secret.use GITHUB")
        headers = {"Authorization": "Bearer {{secret:GITHUB}}"}
        assert await process.call("api.post", url=URL, headers=headers, body="hi") == "ok"
        assert await refused(process.call("api.post", url=URL, headers=headers, body="x\n{{secret:GITHUB}}")) == "denied.policy"
        assert await refused(process.call("api.post", url=URL, body="{{secret:GITHUB}}")) == "denied.policy"
        assert len(got) == 1
