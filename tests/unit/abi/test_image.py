"""An image is immutable data with one digest per content."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from agentos.abi import codec
from agentos.abi.image import AgentImage
from agentos.errors import Invalid, KernelPanic

FULL = """
agentos: 1
name: coder
version: 1.2.0
program: {kind: react, turns: 12}
model: {profile: fast}
prompt: {file: coder.md}
tools: [fs.*, exec.run, {jit: tools/count.ts}, {mcp: github, allow: [get_issue]}, {skill: skills/pytest}]
capabilities: ["fs.read, fs.list /**", "exec.run pytest **"]
policy: policies/coding.policy
asks: {timeout: 4h, on_timeout: suspend}
memory: {context_tokens: 24000, namespaces: [project]}
limits: {tokens: 400000, usd: 2.0, wall: 1h30m, calls: 2000, children: 4, depth: 2, rss: 1GiB}
result: {schema: schemas/report.json}
"""
FILES = {
    "coder.md": "You write code.\n",
    "tools/count.ts": "export default async function () { return 1 }\n",
    "skills/pytest/SKILL.md": "# pytest\n",
    "skills/pytest/more/a.md": "more\n",
    "policies/coding.policy": 'policy "coding"\nallow fs.read\n',
    "schemas/report.json": '{"type": "object"}',
}


def package(folder: Path, manifest: str = FULL, name: str = "coder.yaml") -> Path:
    for inner, text in FILES.items():
        (folder / inner).parent.mkdir(parents=True, exist_ok=True)
        (folder / inner).write_text(text)
    (folder / name).write_text(manifest)
    return folder / name


def minimal(**keys: object) -> dict[str, object]:
    return {"name": "x", "prompt": {"text": "hello"}, **keys}


def test_every_key_of_a_manifest_reaches_its_field(tmp_path: Path) -> None:
    image = AgentImage.load(package(tmp_path))
    assert (image.ref, image.profile, image.prompt) == ("coder:1.2.0", "fast", "You write code.\n")
    assert (image.body.kind, image.body.turns) == ("react", 12)
    assert image.capabilities == ("fs.read, fs.list /**", "exec.run pytest **")
    assert (image.ask_timeout_s, image.on_timeout) == (4 * 3600, "suspend")
    assert (image.context_tokens, image.namespaces) == (24000, ("project",))
    assert image.limits == {
        "tokens": 400000, "usd": 2.0, "wall_s": 5400, "calls": 2000, "children": 4, "depth": 2, "rss_bytes": 1 << 30,
    }  # fmt: skip
    assert image.result_schema == {"type": "object"}
    assert image.policy is not None
    assert (image.policy.source, image.policy.text) == ("policies/coding.policy", FILES["policies/coding.policy"])


def test_tools_carry_their_files(tmp_path: Path) -> None:
    tools = AgentImage.load(package(tmp_path)).tools
    assert [(tool.kind, tool.name) for tool in tools] == [
        ("op", "fs.*"), ("op", "exec.run"), ("jit", "count"), ("mcp", "github"), ("skill", "pytest"),
    ]  # fmt: skip
    assert tools[2].files == {"count.ts": FILES["tools/count.ts"].encode()}
    assert tools[3].allow == ("get_issue",)
    assert list(tools[4].files) == ["SKILL.md", "more/a.md"]


def test_a_minimal_image_has_self_rights_only_and_no_limits() -> None:
    image = AgentImage.from_dict(minimal())
    assert (image.version, image.capabilities, image.limits, image.policy) == ("1", (), {}, None)


def test_digest_is_content_key_order_comments_and_spelled_out_defaults_do_not_count() -> None:
    one = AgentImage.from_dict(minimal(limits={"usd": 2, "calls": 3}))
    two = AgentImage.from_dict(
        {"limits": {"calls": 3, "usd": 2.0}, "prompt": {"text": "hello"}, "name": "x", "agentos": 1, "version": "1"}
    )
    three = AgentImage.from_dict(minimal(limits={"usd": 2, "calls": 3}, program={"kind": "react"}, asks={"timeout": "240m"}))
    assert one.digest == two.digest == three.digest


def test_digest_is_content_every_field_changes_it(tmp_path: Path) -> None:
    image = AgentImage.load(package(tmp_path))
    seen = {image.digest}
    for old, new in [
        ("1.2.0", "1.2.1"), ("turns: 12", "turns: 13"), ("profile: fast", "profile: slow"), ("fs.*,", "fs.read,"),
        ("get_issue", "get_pull"), ("pytest **", "make **"), ("4h", "5h"), ("suspend", "deny"), ("24000", "24001"),
        ("[project]", "[other]"), ("usd: 2.0", "usd: 2.5"), ("1GiB", "2GiB"), ("name: coder", "name: coder2"),
    ]:  # fmt: skip
        seen.add(AgentImage.load(package(tmp_path, FULL.replace(old, new))).digest)
    for inner in FILES:
        package(tmp_path)
        (tmp_path / inner).write_text('{"type": "array"}')
        seen.add(AgentImage.load(tmp_path / "coder.yaml").digest)
    assert len(seen) == 1 + 13 + len(FILES)


def test_digest_is_content_the_folder_and_the_hash_seed_do_not_count(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    here, there = package(tmp_path), package(tmp_path / "elsewhere")
    code = "import sys; from agentos.abi.image import AgentImage; print(AgentImage.load(sys.argv[1]).digest)"
    env = {**os.environ, "PYTHONHASHSEED": "7", "PYTHONPATH": str(Path.cwd())}
    other = subprocess.run([sys.executable, "-c", code, str(there)], env=env, capture_output=True, text=True, check=True)
    assert AgentImage.load(here).digest == other.stdout.strip()


def test_the_digest_of_a_known_image_never_changes() -> None:
    image = AgentImage.from_dict(minimal(capabilities=["fs.read /**"], limits={"wall": "30m"}))
    assert image.digest == "a3f12fbe5724893c87f42c3049cabec60a0aa279f42b71c3831169386ad23d54"


def test_an_image_survives_storing(tmp_path: Path) -> None:
    image = AgentImage.load(package(tmp_path))
    again = AgentImage.from_data(codec.decode(codec.encode(image.to_data())))
    assert again == image
    assert again.digest == image.digest


@pytest.mark.parametrize("damage", [{"name": 5}, {"nam": "x"}, {"tools": [{"kind": "exe", "name": "x"}]}, {"limits": []}])
def test_damaged_stored_data_is_never_an_image(damage: dict[str, object]) -> None:
    with pytest.raises(KernelPanic):
        AgentImage.from_data({**AgentImage.from_dict(minimal()).to_data(), **damage})


def test_an_image_cannot_be_changed() -> None:
    image = AgentImage.host()
    with pytest.raises(AttributeError):
        image.name = "other"  # type: ignore[misc]


def test_host_and_program_images_need_no_file() -> None:
    host = AgentImage.host(capabilities=["fs.read /**"], limits={"calls": 5})
    census = AgentImage.program("census", version="2")
    assert (host.ref, host.body.kind, host.limits) == ("host:1", "host", {"calls": 5})
    assert (census.ref, census.body.kind, census.body.name) == ("census:2", "python", "census")


def test_capabilities_given_as_one_text_are_refused() -> None:
    with pytest.raises(Invalid, match="must be a list"):
        AgentImage.host(capabilities="fs.read /**")


def test_policies_beside_the_images_folder_belong_to_the_package(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "policies").mkdir()
    (tmp_path / "policies/p.policy").write_text('policy "p"')
    path = tmp_path / "images/a.yaml"
    path.write_text("agentos: 1\nname: a\nprompt: {text: x}\npolicy: ../policies/p.policy\n")
    policy = AgentImage.load(path).policy
    assert policy is not None
    assert policy.source == "policies/p.policy"


@pytest.mark.parametrize("name", ["../secret", "link", "folder/secret", "up/secret"])
def test_package_is_closed_no_name_and_no_link_leads_out(tmp_path: Path, name: str) -> None:
    inside = tmp_path / "package"
    inside.mkdir()
    (tmp_path / "secret").write_text("the secret")
    (inside / "link").symlink_to(tmp_path / "secret")
    (inside / "folder").symlink_to(tmp_path)
    (inside / "up").symlink_to("..")
    (inside / "a.yaml").write_text(f"agentos: 1\nname: a\nprompt: {{file: {name}}}\n")
    with pytest.raises(Invalid, match="outside the image's package"):
        AgentImage.load(inside / "a.yaml")


def test_package_is_closed_a_skill_may_not_hold_links(tmp_path: Path) -> None:
    path = package(tmp_path)
    (tmp_path / "skills/pytest/passwd").symlink_to("/etc/passwd")
    with pytest.raises(Invalid, match="is a link"):
        AgentImage.load(path)


def test_visibility_is_not_authority_loading_an_image_imports_and_runs_nothing(tmp_path: Path) -> None:
    (tmp_path / "evil.py").write_text("raise SystemExit('imported')")
    before = set(sys.modules)
    image = AgentImage.from_dict({"name": "x", "program": {"kind": "python", "name": "evil"}}, folder=tmp_path)
    assert image.body.name == "evil"
    assert not {name for name in set(sys.modules) - before if not name.startswith(("yaml", "agentos"))}


def child(tmp_path: Path, text: str) -> AgentImage:
    (tmp_path / "base.yaml").write_text(
        "agentos: 1\nname: base\nprompt: {text: base}\nmodel: {profile: fast}\nlimits: {calls: 10, usd: 1}\n"
        "capabilities: [fs.read /**]\ntools: [fs.*]\n"
    )
    (tmp_path / "child.yaml").write_text(f"agentos: 1\nname: child\nfrom: base:1\n{text}")
    return AgentImage.load(tmp_path / "child.yaml")


def test_what_a_child_leaves_out_it_inherits(tmp_path: Path) -> None:
    image = child(tmp_path, "limits: {calls: 4, tokens: 9}\n")
    assert (image.ref, image.parent, image.prompt, image.profile) == ("child:1", "base:1", "base", "fast")
    assert image.limits == {"calls": 4, "usd": 1.0, "tokens": 9}
    assert image.capabilities == ("fs.read /**",)


def test_image_never_widens_a_limit_above_the_parents_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(Invalid, match="above the 10 of parent `base:1`") as caught:
        child(tmp_path, "limits: {calls: 11}\n")
    assert caught.value.where == f"{tmp_path}/child.yaml:4:17"


def test_image_never_widens_the_kernel_gets_every_ancestors_capabilities(tmp_path: Path) -> None:
    middle = child(tmp_path, "capabilities: [fs.write /**]\n")
    leaf = AgentImage.from_dict({"name": "leaf", "from": "child:1", "capabilities": []}, parents={"child:1": middle}.get)
    assert middle.ceilings == (("fs.read /**",),)
    assert leaf.ceilings == (("fs.read /**",), ("fs.write /**",))
    assert leaf.capabilities == ()


def test_a_registered_parent_is_found_and_a_file_of_another_version_is_not(tmp_path: Path) -> None:
    (tmp_path / "base.yaml").write_text("agentos: 1\nname: base\nversion: 2\nprompt: {text: two}\n")
    (tmp_path / "child.yaml").write_text("agentos: 1\nname: child\nfrom: base:1\n")
    base = AgentImage.from_dict({"name": "base", "prompt": {"text": "one"}})
    assert AgentImage.load(tmp_path / "child.yaml", parents={"base:1": base}.get).prompt == "one"
    with pytest.raises(Invalid, match="parent image `base:1` is not known"):
        AgentImage.load(tmp_path / "child.yaml")


def test_a_circle_of_parents_is_an_error(tmp_path: Path) -> None:
    for name, parent in [("a", "b"), ("b", "a")]:
        (tmp_path / f"{name}.yaml").write_text(f"agentos: 1\nname: {name}\nfrom: {parent}:1\n")
    with pytest.raises(Invalid, match="its own parent"):
        AgentImage.load(tmp_path / "a.yaml")


def test_a_plan_and_a_script_keep_their_calls() -> None:
    calls = [
        {"id": "a", "op": "fs.read", "args": {"path": "x"}},
        {"id": "b", "op": "fs.write", "args": {"text": {"$ref": "a.text"}}},
    ]
    plan = AgentImage.from_dict({"name": "p", "program": {"kind": "plan", "calls": calls}})
    script = AgentImage.from_dict({"name": "s", "program": {"kind": "script", "steps": [{"op": "clock.now"}]}})
    assert list(plan.body.calls) == [{"args": {}, **call} for call in calls]
    assert AgentImage.from_data(plan.to_data()) == plan
    assert script.body.steps == ({"op": "clock.now", "args": {}},)


def test_an_inline_schema_equals_the_same_schema_in_a_file(tmp_path: Path) -> None:
    (tmp_path / "s.json").write_text(json.dumps({"type": "object"}))
    inline = AgentImage.from_dict(minimal(result={"schema": {"type": "object"}}))
    assert AgentImage.from_dict(minimal(result={"schema": "s.json"}), folder=tmp_path).digest == inline.digest
