"""Registered images: by digest for ever, by `name:version` the newest registration, by plain name the newest version registered.

An image that was committed from a checkpoint has a seed; `plant` gives it to a process that is started from it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from agentos.abi.codec import decode, digest, encode
from agentos.abi.image import AgentImage
from agentos.abi.op import closest
from agentos.abi.records import Change, ImageRecord, NameRecord
from agentos.errors import Invalid

if TYPE_CHECKING:
    from agentos.kernel.process import AgentProcess
    from agentos.store import Store

__all__ = ["ImageTable", "plant"]


class ImageTable:
    """Digest, reference or name -> image."""

    def __init__(self) -> None:
        self._by_digest: dict[str, AgentImage] = {}
        self._by_ref: dict[str, AgentImage] = {}
        self._by_name: dict[str, AgentImage] = {}
        self._records: dict[str, ImageRecord] = {}

    def load(self, record: ImageRecord) -> None:
        """Enter an image read from the store."""
        self._records[record.digest] = record
        self._enter(AgentImage.from_data(decode(record.manifest)))

    def register(self, image: AgentImage, changes: list[Change], now: float) -> AgentImage:
        """Register an image; registering the same content again changes nothing but the name's newest."""
        if image.digest not in self._records:
            record = ImageRecord(
                digest=image.digest, name=image.name, version=image.version, manifest=encode(image.to_data()), at=now
            )
            self._records[image.digest] = record
            changes.append(Change(record))
        self._enter(image)
        return image

    def _enter(self, image: AgentImage) -> None:
        self._by_digest[image.digest] = image
        self._by_ref[image.ref] = image
        self._by_name[image.name] = image

    def get(self, ref: str) -> AgentImage | None:
        """Return the image of a ``name:version``, or None."""
        return self._by_ref.get(ref)

    def find(self, name: str) -> AgentImage:
        """Return the image of a digest, ``name:version`` or name.

        Raises:
            Invalid: `invalid.argument`, nothing of that name is registered.
        """
        image = self._by_ref.get(name) or self._by_digest.get(name) or self._by_name.get(name)
        if image is None:
            hint = closest(name, [*self._by_ref, *self._by_name]) or "register it first, or give the path of its manifest"
            raise Invalid("argument", f"there is no image `{name}`", hint=hint, field="image")
        return image

    def by_digest(self, digest: str) -> AgentImage:
        """Return the image a stored process was started from."""
        return self._by_digest[digest]

    def records(self) -> list[ImageRecord]:
        """Return what is registered, oldest first."""
        return sorted(self._records.values(), key=lambda record: record.at)

    def __iter__(self) -> Iterator[AgentImage]:
        """Iterate over registered images by digest, in order of registration."""
        return iter(list(self._by_digest.values()))


def plant(store: Store, process: AgentProcess, changes: list[Change], now: float) -> None:
    """Give a new process what the seed of its image holds: the program state, the private objects, and their labels."""
    seed, record = process.image.seed, process.record
    if seed is None:
        return
    pack = store.objects.pack
    record.save_state = pack(decode(seed.state)) if seed.state else b""
    record.label |= seed.labels
    record.birth_label |= seed.labels
    process.label = record.label
    for one in seed.objects:
        packed = pack(decode(one.value))
        name = NameRecord(
            namespace=f"proc/{process.pid}", name=one.name, type=one.type, digest=digest(packed).hex(), value=packed, labels=one.labels,
            made_by=store.journal.head + 1, pid=process.pid, at=now, tags=one.tags,
        )  # fmt: skip
        changes.append(Change(name))
