"""`expect` statements set labels, sources and lists; nothing has happened before."""

from __future__ import annotations

from typing import Any

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


def _put(key: str, into: str | None = None) -> None: ...


def _own(args: dict[str, Any], pid: int) -> bool:
    return bool(args["into"] == f"proc/{pid}")


def _mine(args: dict[str, Any], pid: int) -> None:
    args["into"] = args["into"] or f"proc/{pid}"


OWN = OpTable([
    op("me.exit", lambda: None, "local", "id:self", self_right=True),
    op("me.drop", lambda right: None, "local", "id:{right}", self_right=True),
    op("me.put", _put, "local", "id:{into:path}/{key}", self_right=_own, prepare=_mine),
])  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "body", "line"),
    [
        ("policy", "", "allow me.exit"),
        ("policy", "deny me.exit", "deny me.exit"),
        ("policy", "", "allow me.drop"),
        ("policy", "", "allow me.put key=a"),
        ("policy", "", 'deny me.put key=a into="proc/7"'),
        ("policy", "", 'deny me.put "notes/a"'),
        ("restrict", "", 'allow me.put "notes/a"'),
    ],
)
def test_a_right_over_oneself_passes_the_default_of_a_policy_also_in_an_expectation(kind: str, body: str, line: str) -> None:
    assert check_text(f'{kind} "t"\n{body}\nexpect {line}', source="t.policy", table=OWN).errors == ()


@pytest.mark.parametrize(
    ("kind", "line", "message", "hint"),
    [
        ("policy", "deny me.exit", "expected deny for me.exit `self`, got allow: no rule", "a right over oneself passes"),
        ("policy", "ask me.drop", "expected ask for me.drop, got allow", "a right over oneself passes"),
        ("restrict", 'deny me.put "a/b"', "expected deny for me.put `a/b`, got allow: no rule", "a `restrict` file lets pass"),
    ],
)
def test_what_passes_unmentioned_is_explained_and_an_id_that_is_not_given_is_not_shown(
    kind: str, line: str, message: str, hint: str
) -> None:
    (error,) = check_text(f'{kind} "t"\nexpect {line}', source="t.policy", table=OWN).errors
    assert (error.message.startswith(message), error.hint.startswith(hint)) == (True, True)
