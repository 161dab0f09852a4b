"""image: what processes are started from."""

from __future__ import annotations

from typing import Any

from agentos.abi.ops.declare import Family

FAMILY = Family("image")


@FAMILY.op("local", on="path:{path}", late={"image": str})
def register(path: str) -> str:
    """Register the image of a manifest and return its digest; every file of the package needs `fs.read`.

    `image` is its ``name:version``, known once the manifest was read.
    """
    raise NotImplementedError


@FAMILY.op("local", on="id:{name:path}:{version}")
def commit(checkpoint: str, name: str, version: str) -> str:
    """Make an image of a checkpoint and return its digest. It requests no more than the checkpoint's process held."""
    raise NotImplementedError


@FAMILY.op("pure", on="id:image", name="list")
def list_() -> list[dict[str, Any]]:
    """List the registered images: `[{name, version, digest, at}]`."""
    raise NotImplementedError
