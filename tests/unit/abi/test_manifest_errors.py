"""Every kind of bad manifest says what is wrong, where it stands and what to do."""

from __future__ import annotations

from pathlib import Path

import pytest

from agentos.abi.image import AgentImage
from agentos.errors import Invalid

GOOD = "agentos: 1\nname: coder\nprompt: {text: hello}\n"

# what is appended to (or, starting with `=`, put in place of) a good manifest; line:col; part of the message; part of the hint
BAD = [
    ("=", "1:1", "file is empty", "minimal image"),
    ("=# only a comment\n", "2:1", "file is empty", "minimal image"),
    ("=[1, 2]\n", "1:1", "the manifest must be a mapping", "it takes agentos"),
    ("=agentos: [\n", "2:1", "not YAML", "brackets"),
    ("=agentos: 1\n\tname: x\n", "2:1", "not YAML", "indentation"),
    ("=name: x\nprompt: {text: y}\n", "1:1", "`agentos` is missing", "it takes"),
    ("=agentos: 1\nprompt: {text: y}\n", "1:1", "`name` is missing", "it takes"),
    ("=agentos: 1\nname: x\n", "1:1", "`prompt` is missing", "react program"),
    ("=agentos: 2\nname: x\nprompt: {text: y}\n", "1:10", "manifest version `2`", "`agentos: 1`"),
    ("=agentos: true\nname: x\nprompt: {text: y}\n", "1:10", "manifest version `true`", "`agentos: 1`"),
    ("=agentos: 1\nname: 7\nprompt: {text: y}\n", "2:7", "`name` must be text, not a whole number `7`", "letters"),
    ("=agentos: 1\nname: a b\nprompt: {text: y}\n", "2:7", "`a b` is not an image name", "letters"),
    ("=agentos: 1\nname: ''\nprompt: {text: y}\n", "2:7", "`name` is empty", "letters"),
    (f"=agentos: 1\nname: {'x' * 201}\nprompt: {{text: y}}\n", "2:7", "201 characters, 200 at most", "shorten"),
    ("promt: {text: hello}\n", "4:1", "unknown key `promt`", "did you mean `prompt`?"),
    ("zzz: 1\n", "4:1", "unknown key `zzz`", "it takes agentos, name"),
    ("name: again\n", "4:1", "duplicate key `name`, first at 2:1", "keep one"),
    ("limits: {calls: 1, calls: 2}\n", "4:20", "duplicate key `calls`", "keep one"),
    ("<<: {version: 1}\n", "4:1", "unknown key `<<`", "it takes"),
    ("1: x\n", "4:1", "key `1` is not text", "quote"),
    ("[a]: x\n", "4:1", "key `a list` is not text", "quote"),
    ("model: &m {profile: default}\n", "4:8", "anchor `&m`", "write the value out"),
    ("model: *m\n", "4:8", "alias `*m`", "write the value out"),
    ("model: !!python/object:os.system {}\n", "4:8", "tag `tag:yaml.org,2002:python/object:os.system`", "leave the tag out"),
    ("---\nagentos: 1\n", "4:1", "second document", "one file per image"),
    ("version: 1.2\n", "4:10", "`version` must be text, not a number `1.2`", "quote"),
    ("version: a:b\n", "4:10", "`a:b` is not a version", "1.2.0"),
    ("from: 3\n", "4:7", "`from` must be text", "base:1"),
    ("from: ':1'\n", "4:7", "does not name an image", "base:1"),
    ("from: base:1\n", "4:7", "parent image `base:1` is not known", "base.yaml"),
    ("program: react\n", "4:10", "`program` must be a mapping, not text `react`", "it takes kind"),
    ("program: {kind: raect}\n", "4:17", "`program.kind` must be one of", "did you mean `react`?"),
    ("program: {kind: 5}\n", "4:17", "`program.kind` must be one of", "use one of"),
    ("program: {turns: 0}\n", "4:18", "`program.turns` is 0, allowed is 1 to", "range"),
    ("program: {turns: many}\n", "4:18", "`program.turns` must be a whole number, not text `many`", "digits"),
    ("program: {turns: true}\n", "4:18", "must be a whole number, not true or false", "digits"),
    ("program: {kind: host, turns: 3}\n", "4:23", "`turns` does not belong to a host program", "`kind: react`"),
    ("program: {kind: python}\n", "4:10", "`name` is missing in `program`", "python"),
    ("program: {kind: script, steps: {}}\n", "4:32", "`program.steps` must be a list", "fs.read"),
    ("program: {kind: script, steps: [{args: {}}]}\n", "4:33", "`op` is missing in `program.steps[0]`", "it takes op, args"),
    ("program: {kind: script, steps: [{op: read}]}\n", "4:38", "`read` is not an op", "`fs.read`"),
    ("program: {kind: script, steps: [{op: fs.read, args: [1]}]}\n", "4:53", "must be a mapping, not a list", "args"),
    ("program: {kind: plan, calls: [{id: a, op: fs.read}, {id: a, op: fs.stat}]}\n", "4:58", "id `a` is used twice", "own id"),
    (
        "program: {kind: plan, calls: [{id: read, op: fs.read, args: {path: {$ref: raed.x}}}]}\n",
        "4:75", "`raed.x` refers to no call", "did you mean `read`?",
    ),
    ("model: {api_key: sk-123}\n", "4:9", "`api_key` does not belong into an image", "the host keeps it"),
    ("model: {profile: [a]}\n", "4:18", "`model.profile` must be text, not a list", "default"),
    ("=agentos: 1\nname: x\nprompt: {}\n", "3:9", "exactly one of `file` and `text`", "coder.md"),
    ("=agentos: 1\nname: x\nprompt: {file: none.md}\n", "3:16", "file `none.md` is missing", "relative to the manifest"),
    ("=agentos: 1\nname: x\nprompt: {file: /etc/hostname}\n", "3:16", "lies outside the image's package", "beside"),
    ("=agentos: 1\nname: x\nprompt: {file: ../../secret}\n", "3:16", "lies outside the image's package", "beside"),
    ("=agentos: 1\nname: x\nprompt: {file: .}\n", "3:16", "not a regular file", "beside"),
    ("tools: fs.read\n", "4:8", "`tools` must be a list", "tools: [fs.*"),
    ("tools: ['fs*']\n", "4:9", "`fs*` is not an op or a family", "`fs.*`"),
    ("tools: [{jit: a.ts, mcp: b}]\n", "4:9", "exactly one of `jit`, `mcp` and `skill`", "jit"),
    ("tools: [{jti: a.ts}]\n", "4:10", "unknown key `jti` in `tools[0]`", "did you mean `jit`?"),
    ("tools: [{jit: a.py}]\n", "4:15", "`a.py` is not a TypeScript file", "`.ts`"),
    ("tools: [{jit: a.ts, allow: [x]}]\n", "4:21", "`allow` is for `mcp` tools", "leave it out"),
    ("tools: [{skill: nowhere}]\n", "4:17", "`nowhere` is not a folder", "SKILL.md"),
    ("tools: [{mcp: github, allow: get_issue}]\n", "4:30", "must be a list", "get_issue"),
    ("capabilities: fs.read /**\n", "4:15", "`capabilities` must be a list, not text", "fs.read"),
    ("capabilities: [{fs.read: /a}]\n", "4:16", "`capabilities[0]` must be text, not a mapping", "fs.read"),
    ("capabilities: ['  ']\n", "4:16", "`capabilities[0]` is empty", "fs.read"),
    ("policy: none.policy\n", "4:9", "file `none.policy` is missing", "relative"),
    ("asks: {timeout: 4}\n", "4:17", "a value with a unit such as `30m`, not a whole number `4`", "unit"),
    ("asks: {timeout: 4y}\n", "4:17", "`4y` is not a duration", "30m"),
    ("asks: {on_timeout: allow}\n", "4:20", "must be one of deny, suspend", "use one of"),
    ("memory: {context_token: 9}\n", "4:10", "unknown key `context_token` in `memory`", "did you mean `context_tokens`?"),
    ("memory: {context_tokens: -1}\n", "4:26", "is -1, allowed is 1 to", "range"),
    ("memory: {namespaces: [a/../b]}\n", "4:23", "`a/../b` is not a namespace", "letters"),
    ("limits: {walll: 1m}\n", "4:10", "unknown key `walll` in `limits`", "did you mean `wall`?"),
    ("limits: {wall: 10m1h}\n", "4:16", "out of order", "30m"),
    ("limits: {usd: -1}\n", "4:15", "`limits.usd` is -1, which is out of range", "below 0"),
    ("limits: {usd: .nan}\n", "4:15", "`limits.usd` must be a number, not text `.nan`", "2.0"),
    ("limits: {tokens: 1.5}\n", "4:18", "must be a whole number, not a number `1.5`", "digits"),
    ("limits: {tokens: yes}\n", "4:18", "must be a whole number, not text `yes`", "digits"),
    ("limits: {rss: 1XB}\n", "4:15", "`1XB` is not a size", "1GiB"),
    ("limits:\n", "4:8", "`limits` must be a mapping, not nothing", "it takes tokens"),
    ("result: {}\n", "4:9", "`schema` is missing in `result`", "it takes schema"),
    ("result: {schema: bad.json}\n", "4:18", "file `bad.json` is not JSON", "JSON"),
    ("result: {schema: list.json}\n", "4:18", "schema is not a JSON object", "type"),
    ("result: {schema: twice.json}\n", "4:18", "a key occurs twice", "JSON"),
]  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("package")
    for name, text in {"bad.json": "{", "list.json": "[]", "twice.json": '{"a": 1, "a": 2}', "a.ts": ""}.items():
        (folder / name).write_text(text)
    return folder


@pytest.mark.parametrize(("text", "at", "message", "hint"), BAD, ids=[row[2][:40] for row in BAD])
def test_a_bad_manifest_names_the_place_the_fault_and_the_remedy(
    folder: Path, text: str, at: str, message: str, hint: str
) -> None:
    path = folder / "image.yaml"
    path.write_text(text[1:] if text.startswith("=") else GOOD + text)
    with pytest.raises(Invalid) as caught:
        AgentImage.load(path)
    error = caught.value
    assert error.code == "invalid.manifest"
    assert message in error.message
    assert error.where == f"{path}:{at}"
    assert hint in error.hint


def test_messages_are_lower_case_and_have_no_full_stop(folder: Path) -> None:
    path = folder / "image.yaml"
    for text, *_ in BAD:
        path.write_text(text[1:] if text.startswith("=") else GOOD + text)
        with pytest.raises(Invalid) as caught:
            AgentImage.load(path)
        assert not caught.value.message.endswith(".")
        assert caught.value.message[0] == "`" or caught.value.message[0].islower()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"\xff\xfe\x00", "not UTF-8"),
        (b"agentos: 1\x00\n", "not YAML"),
        (b"agentos: 1\nname: \x07\n", "not YAML"),
        (b"x: " + b"[" * 40 + b"]" * 40, "nested deeper"),
        (b"#" * (1 << 20) + b"\n", "over 1048576 bytes"),
    ],
)
def test_hostile_bytes_are_refused(tmp_path: Path, data: bytes, message: str) -> None:
    (tmp_path / "image.yaml").write_bytes(data)
    with pytest.raises(Invalid, match=message):
        AgentImage.load(tmp_path / "image.yaml")


def test_a_missing_manifest_names_the_file(tmp_path: Path) -> None:
    with pytest.raises(Invalid, match="no such file") as caught:
        AgentImage.load(tmp_path / "none.yaml")
    assert caught.value.field == str(tmp_path / "none.yaml")


@pytest.mark.parametrize("value", [{"name": object()}, {"name": {1: 2}}, {"name": b"bytes"}])
def test_a_dict_that_is_not_manifest_data_is_refused(value: dict[str, object]) -> None:
    with pytest.raises(Invalid) as caught:
        AgentImage.from_dict(value)
    assert caught.value.code == "invalid.manifest"
    assert caught.value.field == "name"
