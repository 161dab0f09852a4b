"""INVARIANT limits-hold, against a list of what was admitted when: reservations, results, releases and crashes in any order."""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, multiple, precondition, rule

import agentos
from agentos.abi.records import AccountRecord, Change, ProcessRecord, QuotaRecord
from agentos.errors import Denied
from agentos.kernel.budget import Account
from agentos.kernel.process import AgentProcess
from agentos.kernel.quota import QuotaTable, Reservation
from agentos.policy.flow import Charge
from agentos.store import open_store
from tests.room.store.builders import FixedClock, row

WINDOW_S = 60
SLACK_S = Decimal(WINDOW_S) / 60
LIMITS = {
    "calls": Charge("calls", "p:1", 0, 2, "process"),
    "tree": Charge("tree", "p:2", 0, 3, "tree"),
    "window": Charge("window", "p:3", 0, 2, "window", WINDOW_S),
    "tenths": Charge("tenths", "p:4", 0, 0.3, "window", WINDOW_S),
}
AMOUNTS = {"tenths": [0.1, 0.2, Decimal("0.05"), 0]}
TREES = {1: 1, 2: 1, 3: 3}


def process(pid: int) -> AgentProcess:
    account = Account(AccountRecord(pid=pid), {}, None)
    return AgentProcess(ProcessRecord(pid=pid, tree=TREES[pid]), None, agentos.Image.host(), account)


@dataclass(eq=False)
class Call:
    """One call that had room: it counts from `at` on, until it is released."""

    pid: int
    at: Decimal
    charges: tuple[Charge, ...]
    reservation: Reservation | None
    written: bool = False
    sure: bool = True
    resumed: bool = False
    counts: dict[str, Decimal] = field(default_factory=dict)


def name_of(charge: Charge) -> str:
    return f"{charge.key}/{charge.by}"


@st.composite
def charges(draw: Any) -> tuple[Charge, ...]:
    names = draw(st.lists(st.sampled_from(sorted(LIMITS)), min_size=1, max_size=2))
    made = []
    for name in names:
        limit = LIMITS[name]
        amount = draw(st.sampled_from(AMOUNTS.get(name, [1, 1, 1, 2])))
        by = draw(st.sampled_from(["", "", "", "ann"])) if name == "window" else ""
        made.append(Charge(limit.key, limit.where, amount, limit.amount_max, limit.per, limit.window_s, by))
    return tuple({(charge.key, charge.by): charge for charge in made}.values())


class Quotas(RuleBasedStateMachine):
    """Calls of three processes in two trees, and a store that has what was appended."""

    open_calls: Bundle[Call] = Bundle("open_calls")

    @initialize()
    def start(self) -> None:
        self.table, self.now = QuotaTable(), Decimal(1_000_000)
        self.store = open_store(":memory:", clock=FixedClock())
        self.counted: list[Call] = []
        self.processes = {pid: process(pid) for pid in TREES}
        self.ended: set[int] = set()

    def teardown(self) -> None:
        self.store.close()

    def append(self, changes: list[Change]) -> None:
        self.store.journal.append(row(), changes)

    def fits(self, charge: Charge, pid: int, span_s: Decimal, *, unsure: bool) -> bool:
        """What a naive limiter says that looks at everything admitted within the last `span_s` seconds."""
        same = {
            "process": lambda call: call.pid == pid,
            "tree": lambda call: TREES[call.pid] == TREES[pid],
            "window": lambda call: call.at >= self.now - span_s,
        }[charge.per]
        counted = [call for call in self.counted if same(call) and (unsure or call.sure)]
        used = sum((call.counts.get(name_of(charge), Decimal(0)) for call in counted), Decimal(0))
        return used + Decimal(str(charge.amount)) <= Decimal(str(charge.amount_max))

    @rule(target=open_calls, pid=st.sampled_from([1, 1, 2, 3]), charged=charges())
    def reserve(self, pid: int, charged: tuple[Charge, ...]) -> Any:
        if pid in self.ended:
            return multiple()
        longest = WINDOW_S + SLACK_S
        try:
            reservation = self.table.reserve(charged, self.processes[pid], float(self.now))
        except Denied:
            assert not all(self.fits(charge, pid, longest, unsure=True) for charge in charged), "there was room"
            return multiple()
        assert all(self.fits(charge, pid, Decimal(WINDOW_S), unsure=False) for charge in charged), "there was no room"
        counts = {name_of(charge): Decimal(str(charge.amount)) for charge in charged}
        call = Call(pid, self.now, charged, reservation, counts=counts)
        self.counted.append(call)
        return call

    @rule(call=open_calls)
    def admit(self, call: Call) -> None:
        if call.reservation is not None and not call.written:
            changes: list[Change] = []
            self.table.changes(call.reservation, changes)
            self.append(changes)
            call.written = True

    @rule(call=consumes(open_calls), succeeded=st.booleans())
    def settle(self, call: Call, succeeded: bool) -> None:
        if call.reservation is not None and call.written:
            changes: list[Change] = []
            self.table.settle(call.reservation, {"tokens": 5}, succeeded, float(self.now), changes)
            self.append(changes)
            call.reservation = None

    @rule(call=consumes(open_calls))
    def release(self, call: Call) -> None:
        if call.reservation is not None:
            changes: list[Change] = []
            self.table.release(call.reservation, changes)
            self.append(changes)
            call.reservation = None
            if call.resumed:
                call.sure = False  # what is taken back may be older than the call, so room may come later
            else:
                self.counted.remove(call)

    @rule(
        seconds=st.one_of(
            st.sampled_from(["0.5", "29.5", "59.5", "60", "60.5", "61"]).map(Decimal), st.decimals(0, 70, places=3)
        )
    )
    def pass_time(self, seconds: Decimal) -> None:
        self.now += seconds

    @rule()
    def crash(self) -> None:
        """What was appended is there; calls under way are resumed, calls that were not admitted never were."""
        self.table = QuotaTable()
        for record in self.store.current(QuotaRecord):
            self.table.load(record)
        for call in list(self.counted):
            if call.reservation is not None and call.written:
                call.resumed = True
                call.reservation = self.table.resume(call.charges, self.processes[call.pid], float(call.at))
            elif call.reservation is not None:
                call.reservation, call.sure = None, False  # it may be counted all the same: another call wrote the counter down

    @precondition(lambda self: len(self.ended) < 2)
    @rule(pid=st.sampled_from([2, 3]))
    def end(self, pid: int) -> None:
        if pid not in self.ended:
            self.ended.add(pid)
            self.processes[pid].state = "exited"
            changes: list[Change] = []
            self.table.end_process(pid, changes)
            if pid == 3:
                self.table.end_tree(3, changes)
            self.append(changes)

    @invariant()
    def nothing_is_kept_for_who_has_ended(self) -> None:
        for pid in self.ended:
            assert not [key for key in self.table._counters.live if f"/p{pid}" in key]
            assert not [record for record in self.store.current(QuotaRecord) if f"/p{pid}" in record.key]
        if 3 in self.ended:
            assert not self.table.is_for_tree(3)

    @invariant()
    def what_is_stored_is_what_is_kept(self) -> None:
        assert {record.key for record in self.store.current(QuotaRecord)} <= {
            *self.table._counters.live,
            *self.table._counters._gone,
        }


TestLimitsHold = Quotas.TestCase
TestLimitsHold.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
