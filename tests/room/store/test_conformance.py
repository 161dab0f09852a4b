"""The conformance suite on every backend."""

from __future__ import annotations

import pytest

from tests.room.store.conformance import *  # noqa: F403 - the suite is written once and collected here

pytestmark = pytest.mark.anyio
