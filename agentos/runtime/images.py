"""Finding images for the host: by path, by ``name:version``, by digest."""

from __future__ import annotations

import logging
from pathlib import Path

from agentos.abi.image import AgentImage
from agentos.abi.records import Change
from agentos.errors import Invalid
from agentos.kernel.core import Core

__all__ = ["load_image"]

log = logging.getLogger("agentos.runtime")


def load_image(core: Core, name: str | Path, changes: list[Change]) -> AgentImage:
    """Return the image that a host means by `name`, registering what its folder holds when it is a path.

    The images beside a manifest are registered with it, so that its processes can spawn them by ``name:version``; a broken one
    among them is logged and missing, and does not keep the wanted one from starting.

    Raises:
        Invalid: `invalid.manifest`, or there is no such image.
    """
    text = str(name)
    if not (isinstance(name, Path) or "/" in text or text.endswith((".yaml", ".yml"))):
        return core.images.find(text)
    path = Path(name)
    image = AgentImage.load(path, parents=core.images.get)
    for sibling in sorted({*path.parent.glob("*.yaml"), *path.parent.glob("*.yml")} - {path}):
        try:
            core.images.register(AgentImage.load(sibling, parents=core.images.get), changes, core.clock.now())
        except Invalid as error:
            log.warning("image_skipped path=%s error=%s", sibling, error)
    return image
