"""`agentos image verify` and `image diff`: images are looked at before anything of them runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.acceptance.cli_place import ROOT, a_place

AGENT = """
agentos: 1
name: bad
prompt: {text: You help.}
tools: [fs.reed, fs.*]
capabilities: [fs.read /**, bank.transfer acct/7]
policy: bad.policy
"""


def test_what_is_wrong_with_an_image_is_told_at_once_and_nothing_is_registered(tmp_path: Path) -> None:
    place = a_place(tmp_path)
    (tmp_path / "bad.yaml").write_text(AGENT)
    (tmp_path / "bad.policy").write_text('policy "bad" version 1\nallow fs.read "/**"\nexpect deny fs.read "/a"\n')
    problems = place.data("image", "verify", "bad.yaml", status=2)["problems"]
    assert [problem.partition(":")[0] for problem in problems] == [
        "capability `bank.transfer acct/7`",
        "tool `fs.reed`",
        "bad.policy",
    ]
    assert "did you mean `fs.read`?" in problems[1]
    assert place.data("image", "ls") == []


def test_an_image_that_needs_an_apps_ops_is_in_order_with_their_declarations(tmp_path: Path) -> None:
    place = a_place(tmp_path)
    (tmp_path / "pays.yaml").write_text("agentos: 1\nname: pays\nprompt: {text: You pay.}\ncapabilities: [bank.pay]\n")
    (tmp_path / "bank.yaml").write_text("bank.pay: {args: {type: object, properties: {amount: {type: integer}}}}\n")
    place.call("image", "verify", "pays.yaml", status=2)
    assert place.data("image", "verify", "pays.yaml", "--devices", "bank.yaml")["ok"]


@pytest.mark.parametrize("image", sorted(path.name for path in (ROOT / "images").glob("*.yaml")))
def test_the_shipped_images_are_in_order(tmp_path: Path, image: str) -> None:
    assert a_place(tmp_path).data("image", "verify", str(ROOT / "images" / image))["problems"] == []


def test_a_difference_of_images_is_told_by_key(tmp_path: Path) -> None:
    place = a_place(tmp_path)
    (tmp_path / "other.yaml").write_text((tmp_path / "job.yaml").read_text().replace("fs.write /out.txt", "fs.write /**"))
    assert place.data("image", "diff", "job.yaml", "job.yaml")["equal"]
    told = place.call("image", "diff", "job.yaml", "other.yaml", status=1).stdout
    assert told.splitlines() == ["- capabilities: fs.write /out.txt", "+ capabilities: fs.write /**"]
