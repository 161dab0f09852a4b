"""Processes that register images: with their own right to read, and under their own label."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.builders import host, opened, refused, rows, started

pytestmark = pytest.mark.anyio

MANIFEST = """agentos: 1
name: aide
prompt: {file: aide.md}
program: {kind: script, steps: [{op: clock.now}]}
"""


def package(folder: Path, manifest: str = MANIFEST) -> Path:
    (folder / "kit" / "images").mkdir(parents=True)
    (folder / "kit" / "images" / "aide.yaml").write_text(manifest)
    (folder / "kit" / "images" / "aide.md").write_text("Help.")
    (folder / "secret.md").write_text("secret")
    return folder


async def test_a_program_registers_what_it_may_read_and_starts_it(tmp_path: Path) -> None:
    async def work(sys: Any) -> Any:
        digest = await sys.image.register("/kit/images/aide.yaml")
        child = await sys.proc.spawn("aide:1")
        return [digest, (await sys.proc.wait(child)).state]

    async with opened(workspace=package(tmp_path)) as kernel:
        process = await started(kernel, work, "image.register", "fs.read /kit/images/**", "proc.*")
        digest, state = (await process.wait(5)).value
        assert (digest, state) == (kernel.core.images.find("aide").digest, "exited")
        read = [(row.op, row.resource) for row in rows(kernel, process.pid) if row.kind == "intent"]
        assert read == [("fs.read", "/kit/images/aide.yaml"), ("fs.read", "/kit/images/aide.md")]


async def test_every_file_of_the_package_needs_a_right_to_read(tmp_path: Path) -> None:
    """INVARIANT visibility-is-not-authority: a manifest that names a file gets nobody to read it."""
    async with opened(workspace=package(tmp_path)) as kernel:
        process = await host(kernel, "image.register", "fs.read /kit/images/aide.yaml")
        assert await refused(process.call("image.register", path="/kit/images/aide.yaml")) == "denied.capability"
        assert kernel.core.images.get("aide:1") is None


@pytest.mark.parametrize("name", ["../../etc/passwd", "/secret.md", "../../secret.md"])
async def test_a_package_names_no_file_outside_of_itself(tmp_path: Path, name: str) -> None:
    """INVARIANT package-is-closed: whatever the process itself may read."""
    async with opened(workspace=package(tmp_path, MANIFEST.replace("aide.md", name))) as kernel:
        process = await host(kernel, "image.register", "fs.read /**")
        assert await refused(process.call("image.register", path="/kit/images/aide.yaml")) == "invalid.manifest"


async def test_an_image_carries_the_label_of_who_registered_it(tmp_path: Path) -> None:
    """INVARIANT labels-join: through an image, too."""
    async with opened(workspace=package(tmp_path)) as kernel:
        writer = await host(kernel, "obj.put a/**")
        await writer.call("obj.put", value=1, name="u", namespace="a", labels=["untrusted"])
        process = await host(kernel, "image.register", "fs.read /**", "obj.get a/**")
        await process.call("obj.get", name="u", namespace="a")
        digest = await process.call("image.register", path="/kit/images/aide.yaml")
        assert (await kernel.spawn(digest)).info.labels == ("untrusted",)


async def test_the_name_of_another_image_is_not_taken_over(tmp_path: Path) -> None:
    async with opened(workspace=package(tmp_path)) as kernel:
        process = await host(kernel, "image.register", "fs.read /**")
        first = await process.call("image.register", path="/kit/images/aide.yaml")
        assert await process.call("image.register", path="/kit/images/aide.yaml") == first
        (tmp_path / "kit" / "images" / "aide.md").write_text("Do as I say.")
        assert await refused(process.call("image.register", path="/kit/images/aide.yaml")) == "invalid.state"


async def test_a_policy_sees_the_name_before_it_is_registered(tmp_path: Path) -> None:
    policy = 'policy "p"\nallow * any *\ndeny image.register "/**" when image == "aide:1" because "no aides"'
    async with opened(workspace=package(tmp_path), policy=policy) as kernel:
        process = await host(kernel, "image.register", "fs.read /**")
        assert await refused(process.call("image.register", path="/kit/images/aide.yaml")) == "denied.policy"
        assert kernel.core.images.get("aide:1") is None


async def test_a_read_that_a_person_is_asked_about_waits_for_the_answer(tmp_path: Path) -> None:
    policy = 'policy "p"\nallow * any *\nask fs.read "/kit/images/aide.md"'
    async with opened(workspace=package(tmp_path), policy=policy) as kernel:

        async def work(sys: Any) -> Any:
            return await sys.image.register("/kit/images/aide.yaml")

        process = await started(kernel, work, "image.register", "fs.read /**")
        await kernel.run_until_idle(5)
        [ask] = await kernel.asks()
        await kernel.answer(ask.id, "approve", by="me")
        assert (await process.wait(5)).value == kernel.core.images.find("aide").digest


async def test_only_a_broken_manifest_beside_an_image_is_complained_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    images = package(tmp_path) / "kit/images"
    (images / "other.yaml").write_text(MANIFEST.replace("aide", "other").replace("other.md", "aide.md"))
    (images / "aide.turns.yaml").write_text("# agentos: what a model says\n- done\n")
    (images / "broken.yaml").write_text("agentos: 1\nnmae: broken\n")
    async with opened(workspace=tmp_path) as kernel:
        await (await kernel.spawn(images / "aide.yaml")).wait(5)
        assert [image.ref for image in kernel.core.images] == ["other:1", "aide:1"]
    assert [Path(record.args[0]).name for record in caplog.records if "image_skipped" in record.msg] == ["broken.yaml"]
