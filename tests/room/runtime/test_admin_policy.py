"""Admin files stand outside of every kernel's own layers: they tighten, whoever opens the kernel, and fail closed."""

from __future__ import annotations

from pathlib import Path

import pytest

import agentos
from agentos.runtime.policies import admin_policies
from tests.builders import host, opened, refused

pytestmark = pytest.mark.anyio

DENY = 'restrict "admin"\ndeny obj.put "shared/**" because "not on this machine"'


def named(path: Path, text: str | None, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An environment that names `path`, which holds `text`."""
    if text is not None:
        path.write_text(text)
    monkeypatch.setenv("AGENTOS_ADMIN_POLICY", str(path))
    return path


async def test_an_admin_file_is_the_outermost_layer_of_every_kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    named(tmp_path / "admin.policy", DENY, monkeypatch)
    for policy in (None, 'policy "k"\nallow * any *'):
        async with opened(policy=policy) as kernel:
            process = await host(kernel, "obj.*")
            with pytest.raises(agentos.Denied, match="not on this machine"):
                await process.call("obj.put", value=1, name="x", namespace="shared")
            assert await process.call("obj.put", value=1, name="x", namespace="mine")
            assert kernel.core.processes.find(process.pid).stack.layers[0].name == "admin"


async def test_admin_only_tightens_a_file_that_could_allow_opens_no_kernel(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = named(tmp_path / "admin.policy", 'policy "admin"\nallow * any *', monkeypatch)
    with pytest.raises(agentos.Invalid) as caught:
        opened()
    assert caught.value.code == "invalid.policy"
    assert str(path) in caught.value.message


async def test_an_admin_file_does_not_lift_what_the_kernel_denies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    named(tmp_path / "admin.policy", 'restrict "admin"', monkeypatch)
    async with opened(policy='policy "k"') as kernel:
        process = await host(kernel, "obj.*")
        assert await refused(process.call("obj.put", value=1, name="x", namespace="mine")) == "denied.policy"


async def test_a_file_that_is_named_and_not_there_opens_no_kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for path in (tmp_path / "nothing", tmp_path):
        named(path, None, monkeypatch)
        with pytest.raises(agentos.Invalid, match="cannot be read") as caught:
            opened()
        assert caught.value.fields["where"] == str(path)


async def test_a_file_with_an_error_opens_no_kernel_and_names_the_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = named(tmp_path / "admin.policy", 'restrict "admin"\ndeny obj.putt', monkeypatch)
    with pytest.raises(agentos.Invalid) as caught:
        async with opened():
            pass
    assert caught.value.fields["where"] == f"{path}:2:6"


def test_the_file_of_the_machine_stands_outside_of_the_one_that_the_environment_names(tmp_path: Path) -> None:
    machine, other = tmp_path / "machine.policy", tmp_path / "other.policy"
    machine.write_text('restrict "machine"')
    other.write_text('restrict "other"')
    found = admin_policies({"AGENTOS_ADMIN_POLICY": str(other)}, machine)
    assert [policy.source for policy in found] == [str(machine), str(other)]
    assert [policy.source for policy in admin_policies({}, machine)] == [str(machine)]
    assert admin_policies({}, tmp_path / "none.policy") == []


def test_a_file_of_the_machine_that_leads_nowhere_is_no_missing_file(tmp_path: Path) -> None:
    (tmp_path / "machine.policy").symlink_to(tmp_path / "gone")
    with pytest.raises(agentos.Invalid, match="cannot be read"):
        admin_policies({}, tmp_path / "machine.policy")
