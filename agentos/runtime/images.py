"""Finding images: for the host by path, ``name:version`` or digest; for processes, which register what they may read."""

from __future__ import annotations

import logging
import re
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec

from agentos.abi.image import AgentImage, Seed
from agentos.abi.limits import IMAGE_FILE_BYTES_MAX, IMAGE_FILES_MAX, MANIFEST_BYTES_MAX
from agentos.abi.permit import Permit
from agentos.abi.records import Change
from agentos.abi.resource import canonical_path
from agentos.abi.syscall import Syscall
from agentos.broker.handle import is_handle
from agentos.errors import Denied, Invalid
from agentos.kernel.core import Core
from agentos.kernel.process import AgentProcess

if TYPE_CHECKING:
    from agentos.abi.yamlstrict import Node
    from agentos.broker.broker import Broker

__all__ = ["load_image", "register_syscall"]

log = logging.getLogger("agentos.runtime")
_SAYS_SO: Final = re.compile(rb"""^[ \t{]*["']?agentos["']?[ \t]*:""", re.MULTILINE)


def load_image(core: Core, name: str | Path, changes: list[Change]) -> AgentImage:
    """Return the image that a host means by `name`, registering what its folder holds when it is a path.

    The images beside a manifest are registered with it, so that its processes can spawn them by ``name:version``; a broken one
    among them is logged and missing, and does not keep the wanted one from starting. Other YAML files may lie there too.

    Raises:
        Invalid: `invalid.manifest`, or there is no such image.
    """
    text = str(name)
    if not (isinstance(name, Path) or "/" in text or text.endswith((".yaml", ".yml"))):
        return core.images.find(text)
    path = Path(name)
    image = AgentImage.load(path, parents=core.images.get)
    for sibling in sorted({*path.parent.glob("*.yaml"), *path.parent.glob("*.yml")} - {path}):
        if not _is_manifest(sibling):
            continue
        try:
            core.images.register(AgentImage.load(sibling, parents=core.images.get), changes, core.clock.now())
        except Invalid as error:
            log.warning("image_skipped path=%s error=%s", sibling, error)
    return image


def _is_manifest(path: Path) -> bool:
    """Return whether a YAML file has the key that every manifest has. One that cannot be read is for `load` to complain of."""
    try:
        with path.open("rb") as file:
            return _SAYS_SO.search(file.read(MANIFEST_BYTES_MAX)) is not None
    except OSError:
        return True


# --- image.register, for processes -----------------------------------------------------------------------------------------------


def register_syscall(core: Core, broker: Broker) -> Syscall:
    """Return ``image.register``: every file of the package is read by a call of the process's own, decided and journaled like any."""
    return Syscall(core.ops.find("image.register"), partial(_register, core, broker), awaits=True)


async def _register(core: Core, broker: Broker, permit: Permit, args: dict[str, Any]) -> str:
    permit.spend("image.register")
    process: AgentProcess = permit.process
    path = str(args["path"])
    package = _ReadByProcess(path.rpartition("/")[0])
    while True:
        try:
            image = AgentImage.parse(package.file(path), package, source=path, parents=core.images.get)
            break
        except _Wanted as wanted:
            package.files[wanted.path] = await _read(core, broker, process, permit, len(package.files), wanted.path)
    if process.label:
        seed = image.seed or Seed()
        image = msgspec.structs.replace(image, seed=msgspec.structs.replace(seed, labels=seed.labels | process.label))
    permit.recheck("image", image.ref, 0)
    taken = core.images.get(image.ref)
    if taken is not None and taken.digest != image.digest:
        raise Invalid("state", f"there is another image `{image.ref}`", hint="give it another version", field="version")
    return core.images.register(image, permit.changes, core.clock.now()).digest


async def _read(core: Core, broker: Broker, process: AgentProcess, permit: Permit, nth: int, path: str) -> bytes:
    """Read one file as the process: a call of its own, which is no call of its program. A person may be asked about it."""
    process.host_calls += 1
    process.branches += 1
    core.scheduler.resume(process)
    core.end_effect()  # nothing is under way while it waits
    try:
        data = await broker.call(
            process,
            "fs.read",
            {"path": path, "encoding": None, "bytes_max": IMAGE_FILE_BYTES_MAX},
            number=f"i{permit.number}-{nth}",
        )
    finally:
        core.effects += 1
        core.scheduler.suspend(process)
        process.branches -= 1
        process.host_calls -= 1
    if is_handle(data):
        why = data.get("why") or "its content is kept behind a handle"
        raise Denied(
            "label", f"`{path}` makes no image of this process: {why}", hint="let the host register it", op="image.register"
        )
    return bytes(data)


class _Wanted(Exception):
    """A file of a package has not been read yet."""

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self.path = path


class _ReadByProcess:
    """A package in a process's own folders; implements `abi.package.Package`. Asks for one file after the other."""

    def __init__(self, folder: str) -> None:
        self._folder = folder
        self._root = folder.rpartition("/")[0] if folder.endswith("/images") else folder
        self.files: dict[str, bytes] = {}

    def file(self, path: str) -> bytes:
        """Return the bytes of a file that has been read."""
        if path not in self.files:
            if len(self.files) >= IMAGE_FILES_MAX:
                raise Invalid("manifest", f"a package has {IMAGE_FILES_MAX} files at most", hint="ship less", field=path)
            raise _Wanted(path)
        return self.files[path]

    def read(self, name: str, at: Node) -> bytes:
        """Return a file's bytes; `at` is the value that names it, for errors."""
        path = canonical_path(f"{self._folder}/{name}") if name and not name.startswith("/") else name
        if not path.startswith(f"{self._root}/"):
            raise at.wrong(f"`{name}` lies outside the image's package", "put the file beside the manifest")
        return self.file(path)

    def tree(self, name: str, at: Node) -> dict[str, bytes]:
        """Refuse: a folder of a skill is registered by the host."""
        raise at.wrong(f"`{name}` is a folder, which a process cannot register", "have the host register the image")
