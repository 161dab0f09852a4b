"""What a follower makes of events that come before it knows whose they are."""

from __future__ import annotations

from agentos.shell.watch import Watch, told
from tests.unit.shell.builders import ended, event, process


def watching(*infos: object) -> Watch:
    watch = Watch()
    watch.root = 1
    watch.see(infos or (process(1),))  # type: ignore[arg-type]
    return watch


def test_a_denial_is_told_with_its_rule_and_journal_number() -> None:
    watch = watching()
    denied = event(57, "denied", 1, op="fs.read", resource="/logs/x.log", code="denied.policy", rule="a.policy:3")
    assert [told(each) for each in watch.hear(denied)] == [
        "denied    pid 1 fs.read /logs/x.log  denied.policy  a.policy:3  journal 57"
    ]
    assert list(watch.denials) == [57]


def test_every_call_is_told_only_when_wanted() -> None:
    call = event(2, "call", 1, op="fs.read", resource="/a", outcome="done")
    quiet, loud = watching(), Watch(every_call=True)
    loud.root = 1
    loud.see([process(1)])
    assert (quiet.hear(call), loud.hear(call)) == ([], [call])


def test_events_of_a_child_are_kept_until_the_child_is_known_and_stay_in_order() -> None:
    watch = watching()
    heard = [event(5, "denied", 2, op="x"), event(6, "exited", 2), event(7, "exited", 1)]
    assert [watch.hear(each) for each in heard] == [[], [], []]
    assert watch.is_blind
    assert [info.pid for info in watch.see([process(1), ended(2, 1)])] == [2]
    assert watch.recall() == heard
    assert not watch.is_blind


def test_events_of_another_tree_are_not_told() -> None:
    watch = watching()
    watch.hear(event(5, "denied", 9, op="x"))
    watch.see([process(1), process(9, tree=9)])
    assert watch.recall() == []
    assert watch.hear(event(6, "denied", 9, op="x")) == []
    assert not watch.denials


def test_the_time_of_a_process_ends_with_it() -> None:
    watch = watching()
    watch.hear(event(6, "exited", 1))
    assert watch.usage(process(1, usage={"calls": 1.0}))["wall_s"] == 6.0


def test_what_an_agent_says_is_told_on_one_line() -> None:
    said = event(3, "call", 1, op="human.tell", text="two\nlines \x1b[31m")
    assert [told(each) for each in watching().hear(said)] == ["says      pid 1: two\\nlines \\e[31m"]
