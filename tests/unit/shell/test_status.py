"""Exit statuses: one table."""

from __future__ import annotations

import pytest

from agentos.abi.values import ErrorData, Exit
from agentos.errors import Denied, Invalid, Unavailable
from agentos.shell import status


def test_one_status_table_maps_every_family_and_its_exceptions() -> None:
    given = {
        Invalid("argument", "x"): 2, Invalid("op", "x"): 2, Invalid("manifest", "x"): 2, Invalid("policy", "x"): 2,
        Invalid("state", "x"): 1, Invalid("store", "x"): 1, Denied("policy", "x"): 3, Denied("capability", "x"): 3,
        Denied("human", "x"): 3, Denied("budget", "x"): 5, Unavailable("device", "x"): 1, Unavailable("timeout", "x"): 124,
    }  # fmt: skip
    assert {error.code: status.of_error(error) for error in given} == {error.code: code for error, code in given.items()}


@pytest.mark.parametrize(
    ("code", "fields", "wanted"),
    [
        ("denied.policy", {}, 1),
        ("exception", {}, 1),
        ("unavailable.timeout", {}, 1),
        ("denied.budget", {"limit": "calls"}, 5),
        ("denied.budget", {"limit": "wall_s"}, 124),
        ("unavailable.timeout", {"limit": "deadline_s"}, 124),
    ],
)
def test_a_failed_process_is_an_error_unless_a_limit_ended_it(code: str, fields: dict[str, str], wanted: int) -> None:
    assert status.of_exit(Exit("failed", None, ErrorData(code, "x", fields=fields))) == wanted


def test_an_exit_is_ok_and_a_kill_is_an_error() -> None:
    assert (status.of_exit(Exit("exited", 3)), status.of_exit(Exit("killed"))) == (0, 1)
