from __future__ import annotations
from pathlib import Path
from typing import Any
from tests.fault.crash_programs import live
async def case(folder: str, effect: str, situation: str, resident: int) -> dict[str, Any]:
    return await live(Path(folder), effect, situation, resident)
