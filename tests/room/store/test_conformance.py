"""The conformance suite on every backend."""

from __future__ import annotations

from tests.room.store.conformance import *  # noqa: F403 - the suite is written once and collected here
from tests.room.store.conformance import pytestmark as pytestmark
