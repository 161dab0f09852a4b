"""What `explain` says about a call: what decided, by whom, and what would have to change."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import agentos
from agentos.abi.values import Exit  # noqa: F401
from tests.builders import host, opened

pytestmark = pytest.mark.anyio
