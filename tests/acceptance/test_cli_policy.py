"""The policy tools on the command line: what they print, write and exit with."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.acceptance.cli_place import Place, a_place

BANK = """
bank.transfer:
  args: {type: object, properties: {account: {type: string}, to: {type: string}, amount: {type: number}}, required: [account, to, amount]}
  resource: acct/{account}
  sinks: [to, amount]
  result: {type: object, properties: {receipt: {type: string}}}
"""
UGLY = 'policy "u"   version 1 # head\nallow    fs.read "/a"\ndeny fs.write   "/b"   when mode=="append"\n'


@pytest.fixture
def place(tmp_path: Path) -> Place:
    found = a_place(tmp_path)
    (tmp_path / "bank.yaml").write_text(BANK)
    (tmp_path / "ugly.policy").write_text(UGLY)
    return found


def test_check_takes_the_declarations_in_the_folder_beside_a_policy(place: Place) -> None:
    folder = place.folder / "own"
    (folder / "devices").mkdir(parents=True)
    (folder / "pay.policy").write_text('policy "pay"\nallow bank.transfer "acct/7" when amount <= 5 any to\n')
    assert place.data("policy", "check", "own/pay.policy", status=2)["errors"][0]["code"] == "E010"
    (folder / "devices" / "bank.yaml").write_text(BANK)
    assert place.data("policy", "check", "own/pay.policy")["ok"]
    assert place.data("policy", "diff", "own/pay.policy", "own/pay.policy")["equal"]


def test_check_takes_several_files_and_stdin_and_says_what_is_doubtful(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    (place.folder / "twice.policy").write_text('policy "t"\nallow fs.read\nallow fs.read "/a"\n')
    found = place.data("policy", "check", "ugly.policy", "twice.policy")
    assert [each["file"] for each in found["files"]] == ["ugly.policy", "twice.policy"]
    assert [each["code"] for each in found["warnings"]] == ["W102"]
    assert place.data("policy", "check", "--strict", "twice.policy", status=2)["ok"] is False
    (place.folder / "typo.policy").write_text('policy "t"\nallow fs.reed\n')
    assert place.data("policy", "check", "typo.policy", "ugly.policy", status=2)["errors"][0]["where"] == "typo.policy:2:7"
    assert place.data("policy", "check", "nowhere.policy", status=2)["code"] == "invalid.policy"


def test_check_reads_stdin_by_its_real_entry_point(place: Place) -> None:
    import subprocess

    done = subprocess.run(
        place.words("policy", "check", "-"), cwd=place.folder, env=place.environment, input='policy "t"\nallow fs.reed\n',
        capture_output=True, text=True, timeout=20, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert "<stdin>:2:7" in done.stdout


def test_ops_of_a_device_are_known_where_they_are_declared(place: Place) -> None:
    (place.folder / "bank.policy").write_text('policy "b"\nallow bank.transfer "acct/7" when amount <= 5 any to\n')
    assert "there is no op `bank.transfer`" in place.call("policy", "check", "bank.policy", status=2).stdout
    assert "ok" in place.call("policy", "check", "bank.policy", "--devices", "bank.yaml").stdout
    described = place.data("policy", "schema", "--devices", "bank.yaml")["ops"]["bank.transfer"]
    assert (described["sinks"], described["effect"]) == (["amount", "to"], "once")
    assert described["attributes"]["amount"] == {"type": "number"}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[]", "declares no ops"), ("x.y: 3", "must be a mapping"), ("x.y: {efect: once}", "did you mean `effect`?"),
        ("x.y: {effect: twice}", "`effect` is `twice`"), ("x.y: {sinks: [z]}", "no argument `z`"), ("nodot: {}", "is not an op name"),
        ("x.y: {kind: path}", "is one argument"), ("fs.read: {}", "exists already"), ("x.y: {args: {type: string}}", "must be an object"),
        ("x.y: {late: {ip: address}}", "maps names to types"), ("a: &x 1", "not"), ("x.y: {effect: once, effect: pure}", "duplicate key"),
    ],
)  # fmt: skip
def test_a_declaration_that_is_wrong_is_refused_by_name(place: Place, text: str, said: str) -> None:
    (place.folder / "odd.yaml").write_text(text)
    refused = place.data("policy", "check", "ugly.policy", "--devices", "odd.yaml", status=2)
    assert refused["code"] == "invalid.op"
    assert said in refused["message"] + refused["hint"]


def test_fmt_prints_checks_and_writes(place: Place) -> None:
    wanted = 'policy "u" version 1  # head\nallow fs.read  "/a"\ndeny  fs.write "/b" when mode == "append"\n'
    assert place.call("policy", "fmt", "ugly.policy").stdout == wanted
    assert "would change" in place.call("policy", "fmt", "--check", "ugly.policy", status=1).stdout
    (place.folder / "link.policy").symlink_to("ugly.policy")
    (place.folder / "ugly.policy").chmod(0o600)
    place.call("policy", "fmt", "--write", "link.policy")
    assert (place.folder / "ugly.policy").read_text() == wanted
    assert (place.folder / "ugly.policy").stat().st_mode & 0o777 == 0o600
    assert (place.folder / "link.policy").is_symlink()
    assert place.data("policy", "fmt", "--check", "ugly.policy")["changed"] is False
    assert sorted(path.name for path in place.folder.glob(".*")) == []


def test_fmt_of_a_broken_file_changes_none(place: Place) -> None:
    (place.folder / "bad.policy").write_text("policy\n")
    refused = place.data("policy", "fmt", "--write", "ugly.policy", "bad.policy", status=2)
    assert refused["fields"]["where"] == "bad.policy:2:1"
    assert (place.folder / "ugly.policy").read_text() == UGLY
    assert place.data("policy", "fmt", "--write", "--check", "ugly.policy", status=2)["code"] == "invalid.argument"


def test_policy_explain_is_explain(place: Place) -> None:
    place.call("spawn", "careful.yaml", "--yes")
    call = (1, "fs.write", "path=/out.txt", "text=x")
    assert place.call("policy", "explain", *call, status=4).stdout == place.call("explain", *call, status=4).stdout


def test_a_run_is_learned_and_the_learned_policy_admits_it(place: Place) -> None:
    place.call("run", "job.yaml", "--yes")
    place.call("run", "curious.yaml", status=1)
    store = next((place.folder / "state").glob("*/store.db"))
    place.call("policy", "learn", "--trace", store, "--name", "job", "--out", "job.policy")
    text = (place.folder / "job.policy").read_text()
    assert 'allow fs.write "/out.txt"' in text
    assert 'expect deny  fs.read  "/secret.txt"' in text
    place.call("policy", "check", "--strict", "job.policy")
    place.call("run", "job.yaml", "--yes", "--new", "--policy", "job.policy")
    assert len(place.data("policy", "learn", "--trace", f"{store}:1")["text"].splitlines()) < len(text.splitlines())


def test_diff_by_trace_names_the_calls_that_change(place: Place) -> None:
    place.call("run", "job.yaml", "--yes")
    (place.folder / "trace.jsonl").write_text(place.call("audit", "-o", "jsonl").stdout)
    (place.folder / "open.policy").write_text('policy "o"\nallow fs.*\n')
    (place.folder / "shut.policy").write_text('policy "s"\nallow fs.read\nask fs.write\n')
    found = place.data("policy", "diff", "open.policy", "shut.policy", "--trace", "trace.jsonl", status=1)
    assert [(each["op"], each["old"], each["new"], each["new_rule"]) for each in found["changes"]] == [
        ("fs.write", "allow", "ask", "shut.policy:3")
    ]
    assert place.data("policy", "diff", "open.policy", "open.policy", "--trace", "trace.jsonl")["equal"] is True
    told = place.call("policy", "diff", "open.policy", "shut.policy", "--trace", "trace.jsonl", status=1).stdout
    assert "fs.write /out.txt  allow open.policy:2 -> ask shut.policy:3" in told


@pytest.mark.parametrize("trace", ["nowhere", "trace.jsonl:1", "broken.jsonl", "empty.jsonl", "list.jsonl", "work"])
def test_a_trace_that_is_none_is_a_usage_error(place: Place, trace: str) -> None:
    for name, text in (("broken", "{\n"), ("empty", ""), ("list", "[]\n"), ("trace", "{}\n")):
        (place.folder / f"{name}.jsonl").write_text(text)
    assert place.data("policy", "learn", "--trace", trace, status=2)["code"] == "invalid.argument"


def test_diff_says_what_one_policy_lets_through_and_the_other_does_not(place: Place) -> None:
    (place.folder / "a.policy").write_text('policy "a"\nallow fs.read "/docs/**"\n')
    (place.folder / "b.policy").write_text('policy "b"\nallow fs.read "/**"\n')
    assert place.data("policy", "diff", "a.policy", "a.policy")["equal"] is True
    found = place.data("policy", "diff", "a.policy", "b.policy", status=1)
    read = next(each for each in found["differences"] if each["op"] == "fs.read")
    assert read["wider"]
    assert read["narrower"] is None
    back = place.call("policy", "diff", "b.policy", "a.policy", status=1).stdout
    assert any(line.startswith("narrower") and "fs.read" in line for line in back.splitlines())


def test_a_progent_policy_is_imported_and_its_doubts_are_told(place: Place) -> None:
    rules = {"transfer": [[1, 0, {"to": {"pattern": "Bob"}, "amount": {"maximum": 100}}, 0]]}
    (place.folder / "progent.json").write_text(json.dumps(rules))
    options = ("--device", "bank", "--devices", "bank.yaml")
    done = place.call("policy", "import", "progent", "progent.json", *options)
    assert "allow bank.transfer when to matches /Bob/ and amount <= 100\n" in done.stdout
    assert "unanchored" in done.stderr
    place.call("policy", "import", "progent", "progent.json", *options, "--compat", "--out", "p.policy")
    assert "to matches /.*Bob.*/" in (place.folder / "p.policy").read_text()
    place.call("policy", "check", "p.policy", "--devices", "bank.yaml")
    refused = place.data("policy", "import", "progent", "progent.json", "--device", "bnk", status=2)
    assert refused["fields"]["where"] == "progent.json: tool `transfer`"
    assert {doubt["code"] for doubt in place.data("policy", "import", "progent", "progent.json", *options)["doubts"]} == {
        "unanchored"
    }


def test_schemas_are_one_document(place: Place) -> None:
    assert set(place.data("policy", "schema")) == {"title", "grammar", "attributes", "ops"}
    assert place.data("image", "schema")["required"] == ["agentos", "name"]
    assert json.loads(place.call("image", "schema").stdout) == place.data("image", "schema")


def test_a_control_character_of_a_policy_reaches_a_pipe_as_it_is(place: Place) -> None:
    text = 'policy "t"\nallow fs.read "/a\tb"\n'
    (place.folder / "tab.policy").write_text(text)
    assert place.call("policy", "fmt", "tab.policy").stdout == text
