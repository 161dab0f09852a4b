"""A store that was used with a device opens without it: what names its ops is dormant, never wider."""

from __future__ import annotations

from pathlib import Path

import pytest

import agentos
from agentos.testing import Ledger
from tests.builders import opened

pytestmark = pytest.mark.anyio


async def test_default_deny_until_the_device_of_a_policy_and_a_capability_is_mounted(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger")
    policy = 'policy "p"\nallow ledger.once any value\nallow clock.now'
    async with opened(tmp_path / "a.db", devices={"ledger": ledger.device}) as kernel:
        process = await kernel.spawn(agentos.Image.host(), grant=["ledger.once"], policy=policy)
    async with opened(tmp_path / "a.db") as kernel:
        process = kernel.process(process.pid)
        assert await kernel.caps(process.pid) == []
        with pytest.raises(agentos.Denied):
            await process.call("obj.put", value=1, name="x", namespace="shared")
        kernel.mount("ledger", ledger.device)
        assert [cap.ops for cap in await kernel.caps(process.pid)] == [("ledger.once",)]
        assert kernel.check(process.pid, "ledger.once", value="x").outcome == "allow"
