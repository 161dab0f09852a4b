"""`expect` statements set labels, sources and lists; nothing has happened before."""

from __future__ import annotations

import pytest

from agentos.abi.op import OpTable
from agentos.policy import check_text
from tests.unit.policy.builders import TABLE, op, refusal


def _history(account: str) -> dict[str, str]: ...  # type: ignore[empty-body]


BANK = OpTable([*TABLE, op("bank.history", _history, "once", "id:acct/{account}", untrusted=True, trusted=("date",)),
                op("git.push", lambda remote: None, "keyed", "id:{remote}")])  # fmt: skip
POLICY = """policy "t"
label result(bank.history).note secret
let staff = "*@ours.example"
allow bank.transfer when account from { prompt, human, object(notes) } else ask "Pay {account}?"
deny  bank.transfer when account.integrity == untrusted or account.level == secret
deny  bank.transfer when count(bank.transfer) > 3 or sum(bank.transfer.amount) > 3 or after(bank.transfer)
allow fs.read when flow.level < secret and flow.integrity == trusted
allow mail.send when every to from { prompt, $staff } any cc
ask   git.push
ask   fs.write when overlay == true and proc.depth < 2
"""

TRUE = [
    'allow bank.transfer "acct/7" account=x account.source="prompt"',
    'allow bank.transfer "acct/7" account=x account.source=human',
    'allow bank.transfer "acct/7" account=x account.source="object(notes)"',
    'deny bank.transfer "acct/7" account=x account.source="result(bank.history).payee"',
    'ask bank.transfer "acct/7" account=x account.source="result(bank.history).date"',
    'deny bank.transfer "acct/7" account=x account.source="result(bank.history).note"',
    'ask bank.transfer "acct/7" account=x account.source="result(bank.history).payee" account.integrity=trusted',
    'ask bank.transfer "acct/7" account=x',
    'deny bank.transfer "acct/7" account=x flow.integrity=untrusted',
    'allow bank.transfer "acct/7" account=x account.source=prompt flow.integrity=untrusted',
    'deny bank.transfer "acct/7" account=x account.level=secret',
    'deny bank.transfer "acct/7" account.source=prompt account.integrity=untrusted account=x',
    'allow fs.read "/a"',
    'allow fs.read "/a" flow.level=internal',
    'deny fs.read "/a" flow.level=secret',
    'deny fs.read "/a" flow.integrity=untrusted',
    "allow mail.send to=[]",
    'allow mail.send to=["a@ours.example", "b@ours.example"]',
    'deny mail.send to=["a@ours.example", "b@evil.example"]',
    'allow mail.send to=["a@ours.example", "b@else.example"] to.source=prompt',
    "deny mail.send to=bob",
    "ask git.push",
    'ask fs.write "/a" overlay=true proc.depth=1',
    'deny fs.write "/a" overlay=false proc.depth=1',
    'deny fs.write "/a"',
]  # fmt: skip


@pytest.mark.parametrize("line", TRUE)
def test_an_expectation_that_is_true_loads_and_any_other_outcome_does_not(line: str) -> None:
    report = check_text(f"{POLICY}expect {line}", source="t.policy", table=BANK)
    assert report.errors == ()
    outcome, _, rest = line.partition(" ")
    for other in {"allow", "ask", "deny"} - {outcome}:
        (error,) = check_text(f"{POLICY}expect {other} {rest}", source="t.policy", table=BANK).errors
        assert (error.code, f"got {outcome}" in error.message) == ("E018", True)


WRONG = [
    ('path.source="web"', '`"web"` is no source'),
    ('path.source="result(fs.raed)"', "there is no op `fs.raed`"),
    ('path.source="result(fs.read) x"', "is no source"),
    ('path.source="$staff"', "is no source"),
    ("path.integrity=maybe", "`integrity` is never `maybe`"),
    ("flow.level=high", "`flow.level` is never `high`"),
    ("flow.leve=secret", "unknown attribute `flow.leve`"),
    ("bytes_max=[1, 2]", "a list does not fit"),
    ("path.length=3", "is a field"),
]  # fmt: skip


@pytest.mark.parametrize(("setting", "message"), WRONG)
def test_what_cannot_be_set_is_refused(setting: str, message: str) -> None:
    error = refusal(f'policy "t"\nallow fs.read\nexpect allow fs.read "/a" {setting}')
    assert message in error.message


def test_two_arguments_of_one_value_have_the_sources_of_both() -> None:
    line = 'allow bank.transfer "acct/7" account=x value=x value.source="result(bank.history).date" account.source=prompt'
    assert check_text(f"{POLICY}expect {line}", source="t.policy", table=BANK).errors == ()
