"""Every mistake in a policy text is refused at its place, with a message and a hint that says what to do."""

from __future__ import annotations

import pytest

from agentos.policy import check_text, render_errors
from tests.unit.policy.builders import TABLE, refusal

BAD = [
    # text after the header line, line:col, words of the message, words of the hint
    ("allow fs.raed", "2:7", "there is no op `fs.raed`", "did you mean `fs.read`?"),
    ("allow fs", "2:7", "there is no op `fs`", "write `fs.*`"),
    ("deny nett.*", "2:6", "there is no op `nett.*`", "did you mean `net.*`?"),
    ("allow fs.write when sizee <= 3", "2:21", "unknown attribute `sizee` for fs.write; has: path, text", "did you mean `size`?"),
    ("deny fs.* when size > 3", "2:16", "unknown attribute `size` for fs.read", ""),
    ('allow fs.write when size like "3"', "2:31", "`size` of fs.write is a number", "only text"),
    ("allow fs.write when size <= big", "2:29", "does not fit", "order"),
    ("allow fs.write when path < 3", "2:28", "does not fit", "order"),
    ("allow fs.write when size == true", "2:29", "is a number", "write a value that is a number"),
    ("allow fs.write when mode == crate", "2:29", "is never `crate`", "did you mean `create`?"),
    ("allow fs.write when mode in [create, update]", "2:38", "is never `update`", "replace"),
    ("allow fs.write when size <= 10m", "2:29", "is no duration", "`MB`"),
    ('allow net.fetch "https://a.example/**" when timeout_s <= 3MB', "2:58", "is a duration", "10s"),
    ("allow fs.read when bytes_max", "2:29", "a test after `bytes_max`", "== true"),
    ("allow fs.read when bytes_max = 3", "2:30", "`=` is not a comparison", "`==`"),
    ("allow fs.read when encoding == null", "2:32", "`null` is not a value", "is absent"),
    ("allow fs.read when (bytes_max == 1", "2:35", "expected `)`", ""),
    ("allow exec.run when argv == x", "2:21", "`argv` of exec.run is a list", "every argv"),
    ("allow fs.read when every bytes_max == 1", "2:26", "not a list", "drop `every`"),
    ("allow mail.send any * when to == x", "2:23", "expected a statement", "a rule is"),
    ("allow mail.send when some to is absent any *", "2:27", "the whole of `to`", "drop `some`"),
    ("allow mail.send when every to == x", "2:1", "sink `cc` of mail.send is unconstrained", "any cc"),
    ("allow net.fetch", "2:1", "sink `url` of net.fetch is unconstrained", "any url"),
    ("allow mail.send any too", "2:21", "`any too` names no argument", "did you mean `to`?"),
    ("allow mail.send when some parts.fileid == x any *", "2:27", "no field `fileid`; has: file_id, size", "did you mean"),
    ('allow fs.read "src/**"', "2:15", "`src/**` is not absolute", "**/src/**"),
    ('allow fs.read "/src/"', "2:15", "ends with `/`", "`/src/**`"),
    ('allow fs.read "/a/../b"', "2:15", "dotted segment", "plain name"),
    ('allow fs.read "/a/b**c"', "2:15", "cannot stand inside", ""),
    ('allow fs.read ""', "2:15", "is empty", "leave the pattern out"),
    ('allow bank.transfer "/acct/7"', "2:21", "starts with `/`", "`acct/7`"),
    ('allow net.fetch "a.example/**"', "2:17", "has no scheme", "https://a.example"),
    ('allow net.fetch "https://u@a.example/**"', "2:17", "character", "user information"),
    ('allow net.fetch "https://a.example/?q=*"', "2:17", "character", "query"),
    ('allow net.fetch "https://a.example:99999/**"', "2:17", "port `99999`", "65535"),
    ('allow net.fetch "gopher://a.example/**"', "2:17", "no port", ":PORT"),
    ('allow exec.run "pytest \'x"', "2:16", "quote", ""),
    ("allow fs.read $secret", "2:15", "there is no set `$secret`", 'let secret = "..."'),
    ("let a = $a\nallow fs.read $a", "2:9", "contains itself", ""),
    ('let a = "/x"\nlet a = "/y"', "3:5", "defined twice", "another name"),
    ("allow fs.read when path in $nope", "2:28", "no set `$nope`", "let nope"),
    ("allow fs.read when path in secrets", "2:28", "expected `[` or `$SET`", ""),
    ("allow fs.read timeout 10m", "2:15", "`timeout` has no meaning on allow", "ask waits"),
    ("ask fs.read timeout 10", "2:21", "a duration such as `10m`", ""),
    ("ask fs.read timeout 0s", "2:21", "not a positive duration", ""),
    ("deny fs.read any path", "2:14", "`any` has no meaning on deny", ""),
    ('deny fs.read because "a" because "b"', "2:26", "given twice", ""),
    ("alow fs.read", "2:1", "expected a statement, found `alow`", "did you mean `allow`?"),
    ("allow 'fs.read'", "2:7", "`'` does not start a string", '`"`'),
    ('allow fs.read "/a', "2:15", "a string is not closed", "close it"),
    ('allow fs.read "/a\\d"', "2:15", "`\\d` is not an escape", ""),
    ("allow fs.read when bytes_max < 3xy", "2:32", "neither a number, a size nor a duration", "MB"),
    ("allow fs.read ; deny fs.write", "2:15", "`;` has no meaning", ""),
    ("allow fs.read when path matches /(a/", "2:33", "a `(` is not closed", ""),
    ("allow fs.read when path matches /^a/", "2:33", "not needed", ""),
    ("allow fs.read when path matches /(?=a)/", "2:33", "lookaround", ""),
    ('allow fs.read when path matches "a"', "2:33", "as `/.../`", ""),
    ('deny net.fetch when dest_ip in_cidr "10.0.0.1/8"', "2:37", "address range", "10.0.0.0/8"),
    ('expect allow fs.read "/a"', "2:1", "expected allow for fs.read `/a`, got deny: no rule applies", "policy explain"),
    ('allow fs.read\nexpect deny fs.read "/a"', "3:1", "line 2 says allow", ""),
    ("expect deny fs.read", "2:1", "`path` is not given", "expect deny fs.read"),
    ('expect deny fs.* "/a"', "2:13", "needs one op", "per op"),
    ('expect deny fs.read "/a" bytes_max=x', "2:36", "does not fit", ""),
    ('use "gone.policy"', "2:5", "there is no file `gone.policy`", "relative"),
]  # fmt: skip

BAD_CLAUSES = [
    ('ask fs.read when bytes_max > 3 else ask "sure?"', "2:32", "`else ask` has no meaning on ask", "asks already"),
    ('deny fs.read else ask "sure?"', "2:14", "`else ask` has no meaning on deny", ""),
    ('allow fs.read else ask "sure?"', "2:15", "`else ask` has no meaning without a condition", "`when` or `unless`"),
    ('allow fs.read when bytes_max > 3 else ask " "', "2:34", "the question is empty", ""),
    ('allow fs.read when bytes_max > 3 else ask "{pat}?"', "2:34", "unknown attribute `pat` for fs.read", "did you mean `path`?"),
    ('allow fs.read when bytes_max > 3 else ask "{path?"', "2:34", "a brace in the question", "`{amount}`"),
    ('allow fs.read when bytes_max > 3 else ask "{}"', "2:34", "a brace in the question", ""),
    ('allow fs.read when bytes_max > 3 else ask "{resolved}?"', "2:34", "is not known when the question is asked", ""),
    ("allow fs.read remember once", "2:15", "`remember` has no meaning on allow", "answer an ask"),
    ("deny fs.read remember once", "2:14", "`remember` has no meaning on deny", ""),
    ("ask fs.read remember forever", "2:22", "once, process, tree, image or a duration", ""),
    ("ask fs.read remember 0s", "2:22", "not a positive duration", ""),
]  # fmt: skip

BAD_FLOW = [
    ("allow fs.read when flow.levl == secret", "2:20", "unknown attribute `flow.levl`", "did you mean `flow.level`?"),
    ("allow fs.read when flow.level >= secrt", "2:34", "`flow.level` of fs.read is never `secrt`", "did you mean `secret`?"),
    ("allow fs.read when flow.level >= 2", "2:34", "does not fit", ""),
    ("allow fs.read when path.integrity < trusted", "2:37", "does not fit", "order"),
    ("allow fs.read when flow.readers == x", "2:20", "is a list", "every flow.readers"),
    ("allow fs.read when paht.level == secret", "2:20", "unknown attribute `paht.level`", ""),
    ("allow fs.read when bytes_max.length > 2", "2:20", "no field `length`, it is a number", ""),
    ("allow mail.send when to from { prompt } any cc", "2:22", "`to` of mail.send is a list", "every to"),
    ("allow fs.read when every path from { prompt }", "2:26", "not a list", ""),
    ("allow fs.write when size from { prompt }", "2:21", "`size` of fs.write has no origin", "arguments"),
    ("allow fs.read when proc.image from { prompt }", "2:20", "has no origin", ""),
    ("allow exec.run when net from { prompt }", "2:21", "has no origin", "true and false"),
    ("allow fs.read when path from { web }", "2:32", "expected a source, found `web`", ""),
    ("allow fs.read when path from { result(fs.raed) }", "2:32", "there is no op `fs.raed`", "did you mean `fs.read`?"),
    ("allow fs.read when path from { result(fs.read).body }", "2:32", "the result of fs.read: no field `body`, it is text", ""),
    ("allow fs.read when path from { $nope }", "2:32", "there is no set `$nope`", ""),
    ('let a = "x"\nallow fs.read when bytes_max from { $a }', "3:37", "does not fit", "only text"),
    ("deny fs.read when count(fs.raed) > 3", "2:19", "there is no op `fs.raed`", "did you mean"),
    ("deny fs.read when count(fs.read) > x", "2:36", "is no amount", "plain number"),
    ("deny fs.read when sum(bank.transfer) > 3", "2:19", "`sum(bank.transfer)` names no argument", "sum(bank.transfer.amount)"),
    ("deny fs.read when sum(bank.transfer.amuont) > 3", "2:19", "unknown attribute `amuont`", "did you mean `amount`?"),
    ("deny fs.read when sum(fs.read.path) > 3", "2:19", "`path` of fs.read cannot be summed up", "number"),
    ("deny fs.read when sum(net.fetch.dest_ip) > 3", "2:19", "cannot be summed up", ""),
    ("deny fs.read when after(net.fecth)", "2:19", "there is no op `net.fecth`", ""),
]  # fmt: skip

BAD_LIMITS = [
    ("limit fs.raed 3 per 1d", "2:7", "there is no op `fs.raed`", ""),
    ('limit fs.read "src" 3 per 1d', "2:15", "is not absolute", ""),
    ("limit fs.read when siz > 3 3 per 1d", "2:20", "unknown attribute `siz`", ""),
    ("limit fs.read 3MB per 1d", "2:15", "`3MB` is no number of calls", "of"),
    ("limit fs.read 5m per 1d", "2:15", "`5m` is no number of calls", ""),
    ("limit fs.read -3 per 1d", "2:15", "`-3` is negative", ""),
    ("limit fs.read x per 1d", "2:15", "`x` is not an amount", ""),
    ("limit fs.read 3 per 0s", "2:21", "not a positive duration", ""),
    ("limit fs.read 3 per day", "2:21", "a duration, process or tree", ""),
    ("limit fs.read 3 of tokns per 1d", "2:1", "`of tokns` is neither an attribute of fs.read nor a cost", "did you mean `tokens`?"),
    ("limit fs.read 3 of path per 1d", "2:1", "cannot be added up before the call", ""),
    ("limit fs.read 3 of proc.depth per 1d", "2:1", "cannot be added up", ""),
    ("limit fs.read 3MB of tokens per 1d", "2:15", "is no amount of `tokens`", ""),
    ("limit fs.read 3m of bytes per 1d", "2:15", "is no amount of `bytes`", "wall_s"),
    ("limit fs.read 3MB of wall_s per 1d", "2:15", "is no amount of `wall_s`", ""),
    ("limit fs.read 3 per 1d by pth", "2:1", "unknown attribute `pth`", "did you mean `path`?"),
    ("limit mail.send 3 per 1d by to", "2:1", "`to` of mail.send cannot split a limit", ""),
    ("limit fs.read 3 per 1d by resolved", "2:1", "cannot split a limit", ""),
    ("require logs for fs.read", "2:9", "expected an obligation, found `logs`", "did you mean `log`?"),
    ("require log for fs.raed", "2:17", "there is no op `fs.raed`", ""),
    ("require log for fs.read when x == 1", "2:30", "unknown attribute `x`", ""),
    ("label result(fs.raed) secret", "2:7", "there is no op `fs.raed`", ""),
    ("label result(fs.read).body secret", "2:7", "the result of fs.read: no field `body`", ""),
    ("label result(fs.read) secrt", "2:23", "expected a label, found `secrt`", "did you mean `secret`?"),
    ("label result(fs.read) staff", "2:23", "expected a label", ""),
    ("label result(fs.read) trusted, untrusted", "2:1", "`trusted, untrusted` cannot be said together", ""),
    ("label result(fs.read) internal, secret", "2:1", "cannot be said together", ""),
    ("label result(fs.read) secret, secret", "2:1", "cannot be said together", ""),
    ("label prompt trusted", "2:1", "`trusted` has no meaning on prompt", ""),
    ("label human public", "2:1", "`public` has no meaning on human", ""),
    ("label object(notes) trusted", "2:1", "`trusted` has no meaning on `object(notes)`", "endorsed"),
    ("label $nope secret", "2:7", "there is no set `$nope`", ""),
    ('let a = "/x/"\nlabel $a secret', "3:7", "matches nothing that can be read", ""),
]  # fmt: skip


ALL_BAD = [*BAD, *BAD_CLAUSES, *BAD_FLOW, *BAD_LIMITS]


@pytest.mark.parametrize(("body", "place", "message", "hint"), ALL_BAD, ids=[line[0][:40] for line in ALL_BAD])
def test_a_mistake_is_refused_at_its_place_with_what_to_do(body: str, place: str, message: str, hint: str) -> None:
    error = refusal(f'policy "t"\n{body}')
    assert error.code == "invalid.policy"
    assert error.where == f"t.policy:{place}"
    assert message in error.message
    assert hint in error.hint
    assert error.message[0] not in "ABCDEFGHIJKLMNOPQRSTUVWXYZ" or error.message.startswith("URL")
    assert not error.message.endswith(".")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "expected `policy` or `restrict`, the text ends"),
        ('polcy "x"', "expected `policy` or `restrict`, found `polcy`"),
        ("policy x", 'a name in `"`'),
        ('policy ""', "empty name"),
        ('policy "x" version 1.5', "a whole number"),
        ('restrict "x"\nallow fs.read', "`allow` cannot stand in a `restrict` file"),
    ],
)
def test_a_wrong_header_is_refused(text: str, message: str) -> None:
    assert message in refusal(text).message


def test_all_errors_are_listed_and_the_first_by_line_leads() -> None:
    error = refusal('policy "t"\nallow fs.raed\nalow fs.read\ndeny fs.read when x == 1\nallow fs.write "/a')
    assert error.where == "t.policy:2:7"
    assert [one["line"] for one in error.errors] == [2, 3, 4, 5]


def test_a_rendered_error_shows_the_line_with_a_caret_under_the_column() -> None:
    report = check_text('policy "t"\nallow fs.raed "/a"', source="t.policy", table=TABLE)
    assert render_errors(report.errors) == (
        't.policy:2:7: E010 there is no op `fs.raed`\n  allow fs.raed "/a"\n        ^\n  hint: did you mean `fs.read`?'
    )


def test_an_expression_cannot_nest_without_bound_depth() -> None:
    """bounded-depth: neither groups nor negations can exhaust the stack."""
    error = refusal('policy "t"\ndeny fs.read when ' + "(" * 5_000 + "bytes_max == 1" + ")" * 5_000)
    assert "nests deeper" in error.message
    many = 'policy "t"\ndeny fs.read when ' + "not " * 5_000 + "bytes_max == 1"
    assert check_text(many, source="t", table=TABLE).errors == ()


def test_a_text_beyond_the_limit_is_refused_before_it_is_read() -> None:
    assert "longer than" in refusal('policy "t"\n' + "#" * (1 << 20)).message


def test_any_text_is_answered_with_a_report() -> None:
    text = (
        'policy "t"\nlet s = "/a"\nallow fs.read $s when every x in [a, 1KB] or (count(a.b) > 2) because "x" # end\n'
        'allow fs.read when path from { prompt, $s, result(fs.read).x } else ask "{path}?" remember 8h\nrequire log for fs.read\n'
        'limit fs.read 3MB of bytes per 1d by path\nlabel object("a b") secret, untrusted\nexpect ask fs.read path.source="prompt" x=[a]'
    )
    for end in range(len(text)):
        for junk in ("", '"', "\x00", ")", " when ", "$", "/"):
            report = check_text(text[:end] + junk, source="t", table=TABLE)
            assert report.errors or report.layer
