"""The demo programs are run by path, with their folder on the import path; these tests import them the same way."""

from __future__ import annotations

import sys
from pathlib import Path

DEMOS = Path(__file__).resolve().parents[3] / "demos"
if str(DEMOS) not in sys.path:
    sys.path.insert(0, str(DEMOS))
