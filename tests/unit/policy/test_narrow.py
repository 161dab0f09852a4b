"""Containment of policies, case by case: what counts as narrower, and the call that shows what does not."""

from __future__ import annotations

from typing import Any

import pytest

from agentos.abi.op import Effect, Op, OpTable
from agentos.abi.ops import builtin
from agentos.abi.resource import Template
from agentos.policy import Layer, Stack, load_layer
from agentos.policy.narrow import Comparison, Witness, compare, diff

OPS = builtin()
POLICY, RESTRICT = 'policy "x"\n', 'restrict "x"\n'


def loaded(text: str | None, table: OpTable = OPS) -> Layer | None:
    return None if text is None else load_layer(text, source="t", table=table)


def compared(old: str | None, new: str | None, **options: Any) -> Comparison:
    return compare(loaded(old), loaded(new), OPS, **options)


def outcomes(old: str | None, new: str | None, witness: Witness) -> tuple[str, str]:
    """What two layers say about a witness, decided afresh."""
    op = OPS.find(witness.op)
    found = []
    for layer in (loaded(old), loaded(new)):
        stack = Stack([layer] if layer is not None else [])
        found.append(
            stack.decide(op, witness.resources, witness.args, witness.facts, late=witness.late, own=witness.own).outcome
        )
    return found[0], found[1]


def wider(old: str | None, new: str | None) -> Witness:
    """The verified call that `new` lets through more freely."""
    found = compared(old, new)
    assert found.wider
    assert found.witness is not None
    assert not found.narrower
    before, after = outcomes(old, new, found.witness)
    assert (before, after) == (found.witness.old.partition(",")[0], found.witness.new.partition(",")[0])
    return found.witness


NARROWER = [
    ("allow exec.run when overlay == true any *", "allow exec.run when overlay == true and net == false any *"),
    (
        'deny net.fetch when dest_ip in_cidr "10.0.0.0/9" allow net.fetch any *',
        'deny net.fetch when dest_ip in_cidr "10.0.0.0/8" allow net.fetch any *',
    ),
    ("allow msg.send when value.amount <= 5 any *", 'allow msg.send when value.amount <= 4 and value.to == "x" any *'),
    ("allow msg.send when channel.links < 2 any *", "allow msg.send when channel.links == 0 any *"),
    ('allow proc.spawn when every grant like "fs.*" any *', 'allow proc.spawn when every grant in ["fs.read"] any *'),
    ("allow obj.put when value == 1 or value == true any *", "allow obj.put when value == true any *"),
    ('allow fs.read "/src/**"', 'allow fs.read "/src/a/**"'),
    ('allow fs.read "/src/**"', ""),
    ("allow fs.read", "ask fs.read"),
    ("ask fs.read", ""),
    ("allow fs.read", 'allow fs.read deny fs.read "**/.env"'),
    ("allow fs.write when size <= 10", "allow fs.write when size < 4"),
    ("allow fs.write when size <= 10", "allow fs.write when size < 11"),
    ('allow fs.write when mode in ["create", "append"]', 'allow fs.write when mode == "append"'),
    ('allow fs.write unless mode == "append"', 'allow fs.write when mode == "create"'),
    ('allow fs.read when path like "/src/**"', 'allow fs.read "/src/**"'),
    ('allow fs.read "/src/**"', "allow fs.read when path matches /\\/src(\\/.*)?/"),
    ('allow exec.run "pytest **"', 'allow exec.run "pytest -q *"'),
    ('allow exec.run "python -m pytest **"', 'allow exec.run "python -m pytest tests"'),
    ('allow net.fetch "https://*.a.example/**"', 'allow net.fetch "https://b.a.example/x"'),
    ("allow fs.read", 'allow fs.read unless resolved like "/etc/**"'),
    ("allow msg.send any *", "allow msg.send when flow.level < secret any *"),
    ("allow msg.send when to from { prompt, human } any *", "allow msg.send when to from { human } any *"),
    ("allow msg.send when to from { result(fs.stat).* } any *", "allow msg.send when to from { result(fs.stat).size } any *"),
    ("allow fs.read when count(fs.read) < 4", "allow fs.read when count(fs.read) < 3"),
    ("allow fs.write unless after(net.fetch)", "allow fs.write unless after(net.fetch) or count(net.fetch) > 0"),
    ("ask fs.write remember tree", "ask fs.write remember once"),
    ("ask fs.write timeout 1m", "ask fs.write timeout 8h"),
    ('allow fs.write when size < 9 else ask "sure?"', "allow fs.write when size < 9"),
    ("allow fs.read", "allow fs.read require log for fs.read"),
    ("allow fs.read", "allow fs.read limit fs.read 3 per tree"),
    ("allow fs.read", "allow fs.read label result(fs.read) secret"),
    ('allow fs.* "/src/**"', 'allow fs.* "/src/a/**"'),
    ("allow effect pure any *", "allow effect pure any * deny effect pure when flow.level == secret"),
]  # fmt: skip


@pytest.mark.parametrize(("old", "new"), NARROWER)
def test_narrower_is_proved_for(old: str, new: str) -> None:
    found = compared(POLICY + old, POLICY + new)
    assert found.narrower
    assert found.witness is None


WIDER = [
    ("allow exec.run when overlay == true any *", "allow exec.run any *"),
    (
        'deny net.fetch when dest_ip in_cidr "10.0.0.0/8" allow net.fetch any *',
        'deny net.fetch when dest_ip in_cidr "10.0.0.0/9" allow net.fetch any *',
    ),
    ("allow msg.send when value.amount <= 5 any *", "allow msg.send when value.amount <= 5 or value.amount is absent any *"),
    ("allow msg.send when channel.links < 2 any *", "allow msg.send when channel.links <= 2 any *"),
    ("allow msg.send when channel.length < 9 any *", "allow msg.send when channel.length < 99 any *"),
    ('allow proc.spawn when every grant == "a" any *', 'allow proc.spawn when some grant == "a" any *'),
    ('allow proc.spawn when every grant == "a" any *', 'allow proc.spawn when every grant in ["a", "b"] any *'),
    ("allow net.fetch when port == 443 any *", "allow net.fetch when port in [443, 80] any *"),
    ("allow fs.read when path matches /\\/alice/", "allow fs.read when path matches /\\/evil/"),
    ("allow msg.send when channel matches /alice/ any *", "allow msg.send when channel matches /evil/ any *"),
    ("allow msg.send when channel matches /alice/ any *", "allow msg.send when channel matches /alice.*/ any *"),
    ('allow msg.send when channel like "alice" any *', 'allow msg.send when channel like "*alice" any *'),
    ("allow fs.write when size <= 10", "allow fs.write when size <= 11"),
    ("allow fs.write unless size > 10", "allow fs.write"),
    ('allow fs.write when mode == "create"', 'allow fs.write when mode != "append"'),
    ("allow fs.read unless encoding is absent", "allow fs.read"),
    ('deny fs.read "**/.env" allow fs.read', "allow fs.read"),
    ("ask fs.read", "allow fs.read"),
    ("", "ask fs.read"),
    ("allow fs.read", 'allow fs.read ask fs.write "/a"'),
    ('allow exec.run "**"', 'allow exec.run "python -c *"'),
    ('allow exec.run "pytest **"', 'allow exec.run "p* **"'),
    ('allow net.fetch "https://a.example/**"', 'allow net.fetch "https://**.a.example/**"'),
    ('allow net.fetch "https://a.example/**"', 'allow net.fetch "*://a.example/**"'),
    ('allow fs.read unless resolved like "/etc/**"', "allow fs.read"),
    ("allow msg.send when flow.integrity == trusted any *", "allow msg.send any *"),
    ("allow msg.send when to from { human } any *", "allow msg.send when to from { human, result(fs.stat).size } any *"),
    ("allow msg.send when to.integrity == trusted any *", "allow msg.send when to.level == public any *"),
    ("allow fs.read when sum(fs.read.bytes_max) < 9", "allow fs.read when sum(fs.read.bytes_max) < 9.5"),
    ("ask fs.write remember process", "ask fs.write remember 8h"),
    ("ask fs.write remember 8h", "ask fs.write remember process"),
    ("ask fs.write remember tree", "ask fs.write"),
    ("allow fs.write when size < 9", 'allow fs.write when size < 9 else ask "sure?"'),
    ("ask fs.read deny clock.now", "ask fs.read"),
]  # fmt: skip


@pytest.mark.parametrize(("old", "new"), WIDER)
def test_wider_is_shown_by_a_call_for(old: str, new: str) -> None:
    assert wider(POLICY + old, POLICY + new).text()


def test_a_rule_more_that_flips_one_answer_is_found_also_as_the_101st() -> None:
    rules = POLICY + "".join(f'allow fs.read "/src/{number}/**"\n' for number in range(100))
    assert wider(rules, rules + 'allow fs.read "/etc/shadow"').resources[0].text == "/etc/shadow"


def test_an_omitted_argument_does_not_satisfy_and_so_is_no_witness_of_its_own() -> None:
    old = POLICY + 'allow fs.read when encoding == "utf-8"'
    assert compared(old, POLICY + 'allow fs.read when encoding == "utf-8" and not (encoding is absent)').narrower
    assert wider(old, POLICY + 'allow fs.read when encoding == "utf-8" or encoding is absent').args["encoding"] is None


def test_no_layer_lets_everything_through() -> None:
    assert compared(None, POLICY).narrower
    assert compared(None, RESTRICT).narrower
    assert outcomes(POLICY, None, wider(POLICY, None)) == ("deny", "allow")
    assert compared(RESTRICT, None).narrower


def test_a_restrict_file_in_place_of_a_policy_opens_what_was_not_mentioned() -> None:
    assert wider(POLICY + "allow fs.read", RESTRICT).op != "fs.read"
    assert compared(RESTRICT, POLICY + "allow fs.read").narrower


def test_the_default_of_a_policy_does_not_hide_a_rule_about_a_right_over_oneself() -> None:
    assert wider(POLICY + "ask proc.info", POLICY).own


def test_a_set_of_the_same_name_that_holds_more_is_wider() -> None:
    old, new = (POLICY + f"let ours = {names}\nallow msg.send when channel in $ours any *" for names in ('"a"', '"a", "b"'))
    assert wider(old, new).args["channel"] == "b"
    assert compared(new, old).narrower


def test_a_long_text_that_an_expression_does_not_search_is_thought_of() -> None:
    """A deny by expression holds for texts that are too long to search; one by glob does not."""
    old = RESTRICT + "deny human.tell when text matches /[^\\/]*evil/"
    assert len(wider(old, RESTRICT + 'deny human.tell when text like "*evil"').args["text"]) > 8_192


def test_a_deny_on_an_interpreter_cannot_be_dropped_behind_its_version() -> None:
    old = RESTRICT + 'deny exec.run "python **", "python3 **"'
    assert wider(old, RESTRICT + 'deny exec.run "python **"').resources[0].text.startswith("python3")


def test_a_limit_is_kept_by_one_that_is_as_tight() -> None:
    old = POLICY + "allow fs.read\nlimit fs.read 3 per tree"
    assert compared(old, POLICY + "allow fs.read\nlimit fs.read 2 per tree").narrower
    for line in ("", "limit fs.read 4 per tree", "limit fs.read 3 per process", 'limit fs.read "/a/**" 3 per tree'):
        found = compared(old, f"{POLICY}allow fs.read\n{line}")
        assert found.wider
        assert found.witness is not None
        assert "limit fs.read 3 per tree" in found.witness.text()


def test_a_limit_that_has_counted_cannot_start_anew() -> None:
    old = POLICY + "allow fs.read\nlimit fs.read 3 per tree"
    tighter = "allow fs.read\nlimit fs.read 2 per tree"
    assert compared(old, POLICY + tighter, running=True).wider
    assert compared(old, old.replace('"x"', '"y"'), running=True).wider
    assert compared(old, f"{old}\nlimit fs.read 2 per tree", running=True).narrower


def test_an_obligation_is_kept_for_every_call_that_still_passes() -> None:
    old = POLICY + "allow fs.read\nrequire log, redact for fs.read"
    lost = compared(old, POLICY + 'allow fs.read\nrequire log for fs.read\nrequire redact for fs.read "/a/**"').witness
    assert lost is not None
    assert "`redact` is no longer required" in lost.text()
    assert compared(old, POLICY + 'allow fs.read "/a/**"\nrequire log, redact for fs.read "/a/**"').narrower


def test_a_limit_that_another_process_wrote_does_not_go_on_counting() -> None:
    """A fork has its parent's layer; what it writes itself is counted under its own name, from nothing."""
    text = POLICY + "allow fs.read\nlimit fs.read 3 per tree"
    old, same, own = (
        load_layer(text + more, source=source, table=OPS)
        for more, source in (("", "proc/1"), (" # more", "proc/1"), (" # more", "proc/2"))
    )
    assert compare(old, same, OPS, running=True).narrower
    found = compare(old, own, OPS, running=True)
    assert found.witness is not None
    assert "starts counting anew; a layer that another process wrote" in found.witness.text()
    assert compare(old, load_layer(text, source="proc/2", table=OPS), OPS, running=True).narrower, "it is the text it has"


def test_a_label_is_not_dropped_and_nothing_is_endorsed_anew() -> None:
    old = POLICY + "allow fs.read\nlabel result(fs.read) untrusted"
    assert compared(old, POLICY + "allow fs.read").wider
    assert compared(old, POLICY + "allow fs.read\nlabel result(fs.read) untrusted, secret").narrower
    assert compared(POLICY + "allow net.fetch any *", POLICY + "allow net.fetch any *\nlabel result(net.fetch) trusted").wider


def test_labels_of_one_source_count_together_however_they_are_written() -> None:
    both = POLICY + "allow fs.read\nlabel result(fs.read) untrusted, secret"
    apart = POLICY + "allow fs.read\nlabel result(fs.read) untrusted\nlabel result(fs.read) secret"
    assert compared(both, apart).narrower
    assert compared(apart, both).narrower
    assert compared(both, POLICY + "allow fs.read\nlabel result(fs.read) untrusted, internal").wider


OPENING = [
    "allow msg.send when flow.level == secret any *",
    "allow msg.send when flow.integrity != trusted any *",
    "allow msg.send when flow.level in [internal, secret] any *",
    "allow msg.send when to.level > public any *",
    "allow msg.send when not (channel.integrity == trusted) any *",
    "allow msg.send unless flow.level == public any *",
    "allow msg.send when flow.level == internal any *",
    "allow msg.send when proc.goal is absent any *",
    "allow msg.send any * deny msg.send when flow.level < secret",
    "allow msg.send any * deny msg.send when flow.integrity == trusted or channel is absent",
    "allow msg.send any * deny msg.send unless flow.level >= internal",
    "ask msg.send when flow.level >= secret",
    'allow msg.send any * ask msg.send when not (proc.goal like "**")',
    "allow msg.send any * limit msg.send when flow.level == public 3 per 1h",
    "allow msg.send any * require log for msg.send when flow.integrity == trusted",
]  # fmt: skip


@pytest.mark.parametrize("rules", OPENING)
def test_a_label_more_is_undecided_where_a_higher_label_may_open_something(rules: str) -> None:
    found = compared(POLICY + rules, f"{POLICY}{rules}\nlabel result(fs.read) secret, untrusted")
    assert found.undecided
    assert not found.narrower
    (shown,) = diff(loaded(POLICY + rules), loaded(f"{POLICY}{rules}\nlabel result(fs.read) secret, untrusted"), OPS)
    assert shown.text().startswith("undecided `label result(fs.read) secret, untrusted` is new; where labels are higher, `")


def test_dropping_an_endorsement_raises_labels_too() -> None:
    rules = POLICY + "allow msg.send when flow.integrity == untrusted any *"
    endorsed = f"{rules}\nlabel result(net.fetch).body trusted"
    assert compared(endorsed, rules).undecided
    assert compared(POLICY + "allow fs.read\nlabel result(net.fetch).body trusted", POLICY + "allow fs.read").narrower


CLOSING = [
    "allow msg.send when flow.level < secret and flow.integrity == trusted any *",
    "allow msg.send when not (flow.level == secret or to.integrity == untrusted) any *",
    "allow msg.send when flow.level in [public, internal] any *",
    "allow msg.send unless flow.level >= internal any *",
    'allow msg.send when proc.goal like "**" and channel from { prompt } any *',
    "allow msg.send any * deny msg.send when flow.level > public or channel.integrity == untrusted",
    "allow msg.send any * limit msg.send when flow.level == secret 3 per 1h",
    "allow msg.send any * require log for msg.send when flow.integrity != trusted",
]  # fmt: skip


@pytest.mark.parametrize("rules", CLOSING)
def test_a_label_more_is_narrower_where_higher_labels_only_close(rules: str) -> None:
    assert compared(POLICY + rules, f"{POLICY}{rules}\nlabel result(fs.read) secret, untrusted").narrower
    opening = f"{POLICY}{rules}\nallow fs.write when flow.level == secret any *"
    assert compared(opening, f"{POLICY}{rules}\nlabel result(fs.read) secret").narrower, "one strict layer of the two is enough"


def test_an_ask_of_a_restrict_file_that_begins_to_hold_only_narrows() -> None:
    rules = RESTRICT + "ask msg.send when flow.integrity == untrusted"
    assert compared(rules, f"{rules}\nlabel result(fs.read) untrusted").narrower
    ending = rules.replace("== untrusted", "== trusted")
    assert compared(ending, f"{ending}\nlabel result(fs.read) untrusted").undecided


def test_an_op_that_is_mounted_later_is_thought_of() -> None:
    table = OpTable([Op("f.read", lambda path: None, Effect.PURE, (Template("path", "{path}"),))])
    old, new = (loaded(f'policy "x"\nallow f.read\n{more}', table) for more in ("", "allow effect once any *"))
    assert compare(old, new, table).undecided
    assert compare(new, old, table).narrower
    asking = loaded('policy "x"\nallow f.read\nask effect once', table)
    assert compare(new, asking, table).narrower
    assert compare(asking, new, table).undecided


def test_a_family_whose_next_op_may_have_an_unmentioned_sink_is_not_wider_for_it() -> None:
    old = 'allow fs.* "/src/**"'
    assert compared(POLICY + old, f'{POLICY}{old}\ndeny fs.* "**/.git/**"').narrower
    assert not compared(POLICY + old, f"{POLICY}{old} any *").narrower


def test_what_takes_too_long_is_undecided_and_never_narrower() -> None:
    rules = [POLICY + "".join(f'allow fs.read "/a*{number}*b/**"\n' for number in range(count)) for count in (12, 11)]
    found = compared(*rules, states_max=300)
    assert found.undecided
    assert not found.narrower
    many = " or ".join(f"bytes_max == {number * 3}" for number in range(30))
    assert compared(
        POLICY + f"allow fs.read when {many}", POLICY + f"allow fs.read when ({many}) and bytes_max > 9", samples_max=5
    ).undecided


def test_a_difference_that_no_real_call_shows_is_undecided() -> None:
    found = compared(
        POLICY + "allow msg.send when channel.length < 3 any *", POLICY + 'allow msg.send when channel like "ab" any *'
    )
    assert found.undecided
    assert found.witness is None


def test_the_witness_tells_a_person_the_whole_call() -> None:
    found = wider(
        POLICY, POLICY + "allow msg.send when to from { human } and flow.level == secret and after(fs.read) any *"
    ).text()
    assert "msg.send" in found
    assert "deny before, allow after" in found
    for words in ("comes from human", "secret", "after(fs.read) is true"):
        assert words in found


def test_a_witness_holds_nothing_that_a_terminal_would_obey() -> None:
    found = wider(POLICY, POLICY + 'allow msg.send when channel == "\x1b[2J" any *')
    assert found.args["channel"] == "\x1b[2J"
    assert found.text().isprintable()


def test_diff_names_each_op_that_differs_in_both_directions() -> None:
    a = loaded(POLICY + "allow fs.read\nallow fs.write when size < 9\nlimit fs.read 3 per tree")
    b = loaded(POLICY + 'allow fs.write when size > 4\nallow fs.read "/a"')
    found = {one.op: one for one in diff(a, b, OPS)}
    assert set(found) == {"", "fs.read", "fs.write"}
    assert found["fs.read"].wider is None
    assert found["fs.read"].narrower is not None
    assert found["fs.write"].text().startswith("wider     fs.write")
    assert "\nnarrower  fs.write" in found["fs.write"].text()
    assert "limit" in found[""].text()
    assert diff(a, a, OPS) == []


LINES = [
    ("limit fs.read 3 per tree", "", "wider     `limit fs.read 3 per tree` is gone"),
    ("", "limit fs.read 3 per tree", "narrower  `limit fs.read 3 per tree` is new"),
    ("limit fs.read 3 per tree", "limit fs.read 2 per tree", "narrower  `limit fs.read 3 per tree` becomes `limit fs.read 2 per tree`"),
    ("limit fs.read 2 per tree", "limit fs.read 3 per tree", "wider     `limit fs.read 2 per tree` becomes `limit fs.read 3 per tree`"),
    ("limit fs.read 2 per tree", "limit fs.read 2 per tree limit fs.read 9 per tree", ""),
    ("", "label result(fs.read) secret", "narrower  `label result(fs.read) secret` is new"),
    ("label result(fs.read) secret", "", "wider     `label result(fs.read) secret` is gone"),
    ("label result(fs.read) secret", "label result(fs.read) internal",
     "wider     `label result(fs.read) secret` becomes `label result(fs.read) internal`"),
    ("", "label result(net.fetch).body trusted", "wider     `label result(net.fetch).body trusted` is new"),
    ("label result(net.fetch).body trusted", "", "narrower  `label result(net.fetch).body trusted` is gone"),
    ("", "label prompt internal label human secret",
     "narrower  `label prompt internal` is new\nnarrower  `label human secret` is new"),
    ("", "require log, preview for fs.read", "narrower  fs.read /: allow before and after; `log`, `preview` are required now"),
    ("require log for fs.read", "", "wider     fs.read /: allow before and after; `log` is no longer required"),
    ("require log for fs.read", "require redact for fs.read",
     ("wider     fs.read /: allow before and after; `log` is no longer required\n"
      "narrower  fs.read /: allow before and after; `redact` is required now")),
]  # fmt: skip


@pytest.mark.parametrize(("a", "b", "text"), LINES)
def test_every_line_of_a_diff_says_what_b_does(a: str, b: str, text: str) -> None:
    before, after = (loaded(f"{POLICY}allow fs.read\n{each}") for each in (a, b))
    assert "\n".join(each.text() for each in diff(before, after, OPS)) == text


def test_a_name_of_capital_letters_is_found() -> None:
    assert wider(POLICY, POLICY + "allow secret.use any *").resources[0].text.startswith("X")


def test_a_witness_is_spelled_as_the_language_writes_values() -> None:
    found = wider(POLICY, POLICY + "allow msg.send when to from { human } any *").text()
    assert "value=nothing (" in found
    assert "comes from human)" in found
