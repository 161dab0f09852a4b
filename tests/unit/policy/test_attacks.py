"""Attacks that worked against some engine, each by its name; here none does.

Others stand where they belong: URL spellings and interpreters in `test_patterns`, imitated questions in `test_else_ask`, what the import of
a Progent file refuses in `test_progent`.
"""

from __future__ import annotations

import pytest

from agentos.errors import Invalid
from agentos.policy import Stack
from agentos.policy.narrow import compare
from tests.unit.policy.builders import TABLE, call, decide, known, layer, refusal


def test_a_deny_whose_condition_cannot_be_evaluated_still_denies() -> None:
    """Cedar skips a forbid whose condition errors, so permit + forbid gave Allow."""
    body = 'allow bank.transfer\ndeny bank.transfer when meta.country == "XX"'
    assert decide(body, "bank.transfer", account="7", amount=1) == "deny"
    assert decide(body, "bank.transfer", account="7", amount=1, meta={"country": 7}) == "deny"
    assert decide(body, "bank.transfer", account="7", amount=1, meta={"country": "CH"}) == "allow"


@pytest.mark.parametrize(
    "url",
    [
        "https://evil.example#.good.example/x", "https://evil.example?.good.example/x", "https://evil.example:443@a.good.example/",
        "https://evil.example\\.good.example/", "https://a.good.example.evil.example/", "https://a\u3002good.example@evil.example/",
    ],
)  # fmt: skip
def test_no_url_passes_for_one_of_another_host(url: str) -> None:
    """`https://*.good.example/**` as a glob over text matched all of these; some do not get as far as being decided."""
    try:
        found = decide('allow net.fetch "https://*.good.example/**"', "net.fetch", url=url)
    except Invalid:
        return
    assert found == "deny"


def test_a_rule_about_an_argument_that_does_not_exist_is_refused() -> None:
    """Progent: a rule on `emails` where the argument is `email` counts as satisfied."""
    error = refusal('policy "t"\nallow fs.read when paths == "/a"')
    assert "unknown attribute `paths`" in error.message
    assert refusal('policy "t"\ndeny fs.read when args.path == "/a"').fields["line"] == 2


def test_an_argument_that_is_left_out_satisfies_no_condition() -> None:
    """Progent: an omitted argument counts as satisfied, whatever the rule asks of it."""
    assert decide('allow mail.send when every to == "a" and cc == "b"', "mail.send", to=["a"]) == "deny"
    assert decide("allow bank.transfer when value < 100", "bank.transfer", account="7", amount=1) == "deny"


def test_a_pattern_is_of_the_whole_value_and_not_of_some_part() -> None:
    """Progent: patterns are not anchored, so `alice` allows `alice@evil.example`."""
    for test in ('every to like "alice"', "every to matches /alice/"):
        assert decide(f"allow mail.send when {test} any cc", "mail.send", to=["alice"]) == "allow"
        for other in ("alice@evil.example", "xalice", "alice\n", "\nalice", "Alice"):
            assert decide(f"allow mail.send when {test} any cc", "mail.send", to=[other]) == "deny"


def test_an_allow_cannot_forget_a_way_out() -> None:
    """Progent: a rule about `to` leaves `cc` and `bcc` free."""
    assert "sink `cc` of mail.send is unconstrained" in refusal('policy "t"\nallow mail.send when every to == "a"').message
    body = 'allow mail.send when every to == "a" and cc is absent'
    assert [decide(body, "mail.send", to=["a"], cc=cc) for cc in (None, "evil")] == ["allow", "deny"]


@pytest.mark.parametrize(
    "line", ["deny fs.read when path matches /(/", "deny fs.read when path", "deny fs.raed", "deny fs.read when path > 1", "dney fs.read"]
)  # fmt: skip
def test_a_malformed_deny_is_an_error_and_never_left_out(line: str) -> None:
    """Progent: a forbid that does not parse is skipped, and what it forbade is allowed."""
    assert refusal(f'policy "t"\nallow fs.read\n{line}').code == "invalid.policy"


def test_the_hundred_and_first_rule_counts_like_the_first() -> None:
    """Progent: past 100 rules the answer flips."""
    allows = [f'allow fs.read "/a/{number}"' for number in range(300)]
    for at in (0, 99, 100, 101, 300):
        body = "\n".join([*allows[:at], 'deny fs.read "/a/7"', *allows[at:]])
        assert [decide(body, "fs.read", path=f"/a/{number}") for number in (7, 8, 299, 300)] == [
            "deny",
            "allow",
            "allow",
            "deny",
        ]


def test_another_name_is_not_a_narrower_policy() -> None:
    """Progent: its check of updates accepts `^alice$` -> `^evil$` as a narrowing."""
    for test in ("account matches /{}/", 'account == "{}"', 'account like "{}"'):
        old, new = (layer(f"allow bank.transfer when {test.format(name)}") for name in ("alice", "evil"))
        found = compare(old, new, TABLE)
        assert not found.narrower
        assert found.witness is not None
        assert found.witness.args["account"] == "evil"


def test_a_star_does_not_cross_a_slash() -> None:
    """Engines that match paths with fnmatch let `/src/*.py` reach any depth, and `..` with it."""
    body = 'allow fs.read "/src/*.py"'
    found = [decide(body, "fs.read", path=path) for path in ("/src/a.py", "/src/x/a.py", "/src/../etc/a.py", "/src/x/../a.py")]
    assert found == ["allow", "deny", "deny", "allow"]


@pytest.mark.parametrize("path", ["/a/../../etc/x", "/a\0/x", "/a/\ud800"])
def test_a_path_that_has_no_place_is_not_decided_but_refused(path: str) -> None:
    """`..` above the root and NUL end a path early for whoever reads it after the check."""
    with pytest.raises(Invalid):
        decide("allow fs.read", "fs.read", path=path)


@pytest.mark.parametrize(
    "url", ["https://B\u00dcCHER.example/", "https://xn--bcher-kva.example:443/", "https://b\u00fccher\u3002example/"]
)
def test_every_spelling_of_a_denied_host_is_denied(url: str) -> None:
    """Case, IDNA and the dots of other scripts name the same host."""
    try:
        found = decide('allow net.fetch any *\ndeny net.fetch "https://b\u00fccher.example/**"', "net.fetch", url=url)
    except Invalid:
        return
    assert found == "deny"


def test_a_link_inside_the_root_to_a_denied_file_is_decided_again_where_it_leads() -> None:
    """A path is allowed by its name and leads to another file."""
    stack = Stack([layer('allow fs.read "/docs/**"\ndeny fs.read when resolved like "**/.env"')])
    found, resources, args, _ = call("fs.read", path="/docs/readme")
    assert stack.decide(found, resources, args, {}).outcome == "allow"
    for resolved, outcome in (("/docs/readme", "allow"), ("/home/.env", "deny"), (None, "deny")):
        assert stack.decide(found, resources, args, {"resolved": resolved}, late=True).outcome == outcome


def test_a_text_too_long_to_be_searched_does_not_slip_past_a_deny() -> None:
    """Filters that give up on long input let through what is padded."""
    body = "allow fs.write\ndeny fs.write when text matches /(.|\\n)*secret(.|\\n)*/ or text.links > 0"
    padded = "secret http://evil.example" + " " * 70_000
    assert [decide(body, "fs.write", path="/a", text=text) for text in ("hello", padded)] == ["allow", "deny"]


def test_a_wildcard_over_commands_grants_nothing_that_runs_others() -> None:
    """`deny fs.read "**/.env"` is walked round by a shell that a wildcard let in; commands that run commands are named, or not granted."""
    body = 'allow exec.run "* **"'
    for argv in (
        ["bash", "-c", "cat .env"],
        ["env", "cat", ".env"],
        ["python", "-c", "print(open('.env').read())"],
        ["/bin/sh", "x"],
    ):
        assert decide(body, "exec.run", argv=argv) == "deny"
    assert decide(body, "exec.run", argv=["ls", "-la"]) == "allow"


@pytest.mark.parametrize(
    "argv", [["agentos", "approve", "1"], ["agentos", "status;approve", "1"], ["/tmp/agentos", "status"], ["agentos"]]
)
def test_a_command_is_granted_token_by_token_and_not_as_a_text(argv: list[str]) -> None:
    """`exec.run ["agentos", "approve", "1"]`: a prefix of a command line is not the command."""
    assert decide('allow exec.run "agentos status *"', "exec.run", argv=argv) == "deny"
    assert decide('allow exec.run "agentos status *"', "exec.run", argv=["agentos", "status", "1"]) == "allow"


def test_a_value_that_an_outsider_could_choose_is_grounded_and_still_not_trusted() -> None:
    """Engines that trust a value because it equals a field of a result: who sends a mail chooses the name in it."""
    body = "allow bank.transfer when account from { result(fs.read).* } and account.integrity == trusted"
    for bits, outcome in ((0b100, "deny"), (0, "allow")):
        facts = known({"7": ("result(fs.read).sender", bits)})
        assert decide(body, "bank.transfer", account="7", amount=1, facts=facts) == outcome
