"""Committing a checkpoint as an image: what its process was started from, with what it had worked out since.

The image is that of the process, with a seed: the state of its last save point before the checkpoint and its private objects. Whoever is
started from it begins with that state and those objects, under their labels. It holds no journal, pid or time: equal content, one digest.

INVARIANT children-are-never-wider: the image requests no more than the process held, within what its own image requested; like every image,
it grants nothing.
INVARIANT labels-join: what is started from it has the label that the process had, and that of who chose its name and its point.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from agentos.abi.codec import encode
from agentos.abi.image import AgentImage, Seed, SeedObject
from agentos.abi.limits import IMAGE_SEED_BYTES_MAX
from agentos.abi.manifest import IMAGE_NAME, IMAGE_VERSION
from agentos.abi.records import Change, CheckpointRecord, ProcessRecord
from agentos.errors import Invalid
from agentos.kernel.branch import kept_back
from agentos.kernel.grant import within_image
from agentos.kernel.past import Past
from agentos.kernel.recovery import known_spec

if TYPE_CHECKING:
    from agentos.kernel.core import Core
    from agentos.kernel.process import AgentProcess

__all__ = ["commit_image"]


def commit_image(
    core: Core, checkpoint: CheckpointRecord, name: str, version: str, changes: list[Change], *, by: AgentProcess | None = None
) -> AgentImage:
    """Register the image that a checkpoint's process makes and return it; `by` is the process that wants it, None for the host.

    Raises:
        Invalid: a bad name or version, one that another image has, or a seed of over IMAGE_SEED_BYTES_MAX.
    """
    for value, form, field in ((name, IMAGE_NAME, "name"), (version, IMAGE_VERSION, "version")):
        if not form.fullmatch(value):
            raise Invalid("argument", f"`{value[:100]}` is no {field} of an image", hint="letters, digits and `-`", field=field)
    past = Past(core, checkpoint.at_seq)
    then = past.process(checkpoint.pid)
    image = msgspec.structs.replace(
        core.images.by_digest(then.image_digest), name=name, version=version, capabilities=_requests(core, past, then),
        seed=_seed(core, past, then, by.label if by is not None else 0),
    )  # fmt: skip
    taken = core.images.get(image.ref)
    if taken is not None and taken.digest != image.digest:
        raise Invalid("state", f"there is another image `{image.ref}`", hint="give another version", field="version")
    return core.images.register(image, changes, core.clock.now())


def _requests(core: Core, past: Past, then: ProcessRecord) -> tuple[str, ...]:
    """Return what the process held then, as far as its image requested it and nobody has revoked it since."""
    image, texts = core.images.by_digest(then.image_digest), set()
    for record in past.caps(then.pid):
        living = core.caps.get(record.cap)
        spec = known_spec(core, living.record if living is not None else record)
        today = living.record if living is not None else core.store.get(type(record), record.cap) or record
        if spec is not None and kept_back(core, record, today, core.clock.now()) in ("", "its uses are counted"):
            texts |= {part.text for part in within_image(core, image, spec)}
    return tuple(sorted(texts))


def _seed(core: Core, past: Past, then: ProcessRecord, chosen_by: int) -> Seed:
    unpack = core.store.objects.unpack
    objects = [
        SeedObject(name=name.name, type=name.type, value=encode(unpack(name.value)), labels=name.labels, tags=name.tags)
        for name in past.names(f"proc/{then.pid}")
    ]
    state = encode(unpack(then.save_state)) if then.save_state else b""
    seed = Seed(state=state, objects=tuple(sorted(objects, key=lambda one: one.name)), labels=then.label | chosen_by)
    size = len(encode(seed))
    if size > IMAGE_SEED_BYTES_MAX:
        hint = "drop objects before the checkpoint, or keep them in a shared namespace"
        raise Invalid("state", f"state and objects have {size} bytes, {IMAGE_SEED_BYTES_MAX} at most", hint=hint)
    return seed
