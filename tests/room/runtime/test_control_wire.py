"""What crosses the wire arrives as it was sent, and nothing is built that is not in the table."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentos.abi.values import CapInfo, ErrorData, Event, Exit, Ref
from agentos.errors import AgentOSError, Denied, Invalid, KernelPanic, Unavailable
from agentos.kernel.ask import Ask
from agentos.policy import Policy
from agentos.runtime import wire
from agentos.runtime.outcome import Decision, Entry, Outcome
from agentos.store import AuditReport


def there(value: Any) -> Any:
    return wire.read(wire.frame(value=value), wire.values)["value"]


plain = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False) | st.text() | st.binary()
    | st.datetimes(timezones=st.just(UTC)) | st.decimals(allow_nan=False),
    lambda inner: st.lists(inner) | st.tuples(inner, inner) | st.dictionaries(st.text() | st.just("$"), inner),
    max_leaves=20,
)  # fmt: skip


@given(plain)
def test_a_value_arrives_as_it_was_sent(value: Any) -> None:
    found = there(value)
    assert found == value
    assert type(found) is type(value)


def test_what_is_not_a_number_arrives_too() -> None:
    assert math.isnan(there(float("nan")))


@pytest.mark.parametrize(
    "value",
    [
        Exit("failed", None, ErrorData("denied.budget", "x", fields={"limit": "calls"})),
        Event(3, "call", 1, 2.5, {"op": "fs.read"}),
        CapInfo(1, 1, ("fs.read",), ("/**",), "fs.read /**", None, None, None, None, "host"),
        Ref("notes", "a", 1, "d"),
        Decision("ask", "", "p:3", "look", 1, "text"),
        Entry(1, 1, "1", "fs.read", "/a", {"path": "/a"}, "done", "", "", None, None, [], {"calls": 1.0}, b"raw", 1.0),
        Ask(1, "approval", 1, "fs.write", {}, None, "00", "p:1", "", [], ["1 a:1"], 1.0, None, "pending", number="1"),
        AuditReport(True, 3, None, "", "3:00"),
        Path("/tmp/x"),
    ],
)
def test_values_of_the_api_keep_their_type(value: Any) -> None:
    assert there([value]) == [value]


@pytest.mark.parametrize(
    "error",
    [
        Denied("policy", "no", hint="ask", seq=7, rule="p:3", pid=1),
        Unavailable("device", "it said no", may_have_happened=True),
        Invalid("policy", "wrong", where="p:1:2", errors=[{"line": 1}]),
    ],
)
def test_an_error_arrives_whole(error: AgentOSError) -> None:
    found = there(Outcome(False, None, error, 7)).error
    assert type(found) is type(error)
    assert (found.to_data(), found.seq) == (error.to_data(), error.seq)


def test_no_error_is_lost_for_a_detail_that_cannot_be_sent() -> None:
    found = there(Invalid("argument", "file `\udc80` is not there", hint="\udc80", where=object(), name="\udc80"))
    assert found.message == "file `\\udc80` is not there"
    assert "object" in found.where


def test_a_timeout_and_a_panic_stay_what_they_are() -> None:
    assert isinstance(there(TimeoutError("late")), TimeoutError)
    assert isinstance(there(KernelPanic("bug")), KernelPanic)


@dataclass
class Receipt:
    amount: Decimal


def test_a_value_of_an_apps_own_type_arrives_as_its_data() -> None:
    assert there(Receipt(Decimal("1.5"))) == {"amount": "1.5"}


@pytest.mark.parametrize("value", [object(), "\ud800", {1, object()}])
def test_what_is_no_data_is_refused_with_a_reason(value: Any) -> None:
    with pytest.raises(Invalid) as caught:
        wire.frame(value=value)
    assert caught.value.code == "invalid.argument"


@pytest.mark.parametrize("name", ["Exit", "Ask", "error", "os.system", "Receipt", "__class__"])
def test_wire_builds_only_what_it_names(name: str) -> None:
    with pytest.raises(Invalid):
        wire.arguments({"image": {"$": name, "v": {"state": "exited"}}})
    with pytest.raises(KernelPanic):
        wire.read(b'{"value": {"$": "os.system", "v": "true"}}', wire.values)


def test_a_policy_crosses_as_text() -> None:
    sent = wire.parse(wire.frame(id=1, method="spawn", args={"policy": Policy("allow *", source="p")})).args
    assert wire.arguments(sent) == {"policy": Policy("allow *", source="p")}


def test_datetimes_without_a_zone_stay_without() -> None:
    plain = datetime(2030, 1, 2, 3, 4, tzinfo=UTC).replace(tzinfo=None)
    assert there(plain) == plain
