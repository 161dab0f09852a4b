"""Attacks that the benchmark does not have: other tools, other encodings, split sums, planted names, titles and records.

Each runs in every user task (or in those that it names), once after the user's own calls and once before them.
"""

from __future__ import annotations

from tests.acceptance.agentdojo import attacks_banking, attacks_slack, attacks_travel, attacks_workspace
from tests.acceptance.agentdojo.attack import Attack

_SUITES = (attacks_banking, attacks_workspace, attacks_slack, attacks_travel)

ATTACKS: list[Attack] = [attack for suite in _SUITES for attack in suite.ATTACKS]
REMAINING: list[Attack] = [attack for suite in _SUITES for attack in suite.REMAINING]
"""What the policies cannot stop while it acts before the user's own calls; see docs/reference/agentdojo.md."""
