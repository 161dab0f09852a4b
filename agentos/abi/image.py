"""The agent image: everything a process is started from, as one immutable value.

An image is data. Loading a manifest reads and embeds every file that it names, so that a stored image needs no folder any more, and
equal images have equal digests on every machine: neither key order, comments, paths of folders nor the way a default is written count.
It grants nothing: `capabilities` is what a process of it asks for (see `agentos.abi.manifest` for the keys of the file).

INVARIANT digest-is-content: equal content has one digest, on every machine; any change of what a process would run or ask for changes it.
INVARIANT image-never-widens: with `from`, limits are within the parent's, and `ceilings` keeps every ancestor's capabilities, within
which the kernel derives those of the image.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import msgspec

from agentos.abi.codec import to_json
from agentos.abi.limits import ASK_TIMEOUT_S, IMAGE_PARENTS_MAX, MANIFEST_BYTES_MAX
from agentos.abi.manifest import BUDGET_KEYS, PolicyFile, Program, Tool, read_manifest
from agentos.abi.package import Folder, Package
from agentos.abi.yamlstrict import Node, as_node, parse_yaml
from agentos.errors import Invalid, KernelPanic

__all__ = ["AgentImage", "Parents", "Seed", "SeedObject"]

Parents = Callable[[str], "AgentImage | None"]
"""Finds a registered image by ``name:version``."""


class SeedObject(msgspec.Struct, frozen=True):
    """One private object that processes of a committed image start with; `value` and `tags` are encoded."""

    name: str
    type: str
    value: bytes
    labels: int = 0
    tags: bytes = b""


class Seed(msgspec.Struct, frozen=True):
    """What processes of a committed image start with: an encoded program state, private objects by name, and a label."""

    state: bytes = b""
    labels: int = 0
    objects: tuple[SeedObject, ...] = ()


class AgentImage(msgspec.Struct, frozen=True, kw_only=True, dict=True, forbid_unknown_fields=True):
    """One image. Build it with `load`, `from_dict`, `host` or `program`; fields are canonical and are not checked again.

    Attributes:
        name: Image name.
        version: Its version.
        parent: ``name:version`` of the image it was made `from`, or "".
        ceilings: Capability texts of every ancestor, the farthest first: each list bounds what this image may hold.
        body: The program that a process of it runs.
        profile: Model profile, a name that the host gives meaning to.
        prompt: Text of the prompt.
        tools: What the model is shown.
        capabilities: What it asks for. Empty: self rights only.
        policy: Its policy layer, or None.
        ask_timeout_s: Seconds until an unanswered ask is given up.
        on_timeout: What that means.
        context_tokens: Bound of one whole request in tokens, None for the model's own.
        namespaces: Memory namespaces that it works in.
        handles: Which results come back as handles, their content kept in object memory: ``never`` (but for what a policy requires),
            ``large`` (over HANDLE_BYTES_MIN), ``untrusted`` (those, and what comes from outside).
        limits: Budget keys (`tokens usd wall_s calls children depth rss_bytes`) -> bound. Absent: no limit of its own.
        result_schema: JSON schema that the exit value must fit, or None.
        seed: What its processes start with, when it was committed from a checkpoint; no manifest says it.
    """

    name: str
    version: str = "1"
    parent: str = ""
    ceilings: tuple[tuple[str, ...], ...] = ()
    body: Program = Program()
    profile: str = "default"
    prompt: str = ""
    tools: tuple[Tool, ...] = ()
    capabilities: tuple[str, ...] = ()
    policy: PolicyFile | None = None
    ask_timeout_s: float = ASK_TIMEOUT_S
    on_timeout: Literal["deny", "suspend"] = "deny"
    context_tokens: int | None = None
    namespaces: tuple[str, ...] = ()
    handles: Literal["never", "large", "untrusted"] = "never"
    limits: dict[str, int | float] = {}
    result_schema: dict[str, Any] | None = None
    seed: Seed | None = None

    @classmethod
    def load(cls, path: str | Path, *, parents: Parents | None = None) -> AgentImage:
        """Read a manifest and every file that it names.

        Args:
            path: The manifest, at most MANIFEST_BYTES_MAX.
            parents: Finds the image that `from` names, when no file beside the manifest is it.

        Raises:
            Invalid: `invalid.manifest` with `where`, or without when the file itself cannot be read.
        """
        return _load(Path(path), parents, ())

    @classmethod
    def parse(cls, data: bytes, package: Package, *, source: str, parents: Parents | None = None) -> AgentImage:
        """Make an image of the text of a manifest.

        Args:
            data: The manifest.
            package: Where the files that it names come from.
            source: Its name, for errors.
            parents: Finds the image that `from` names.

        Raises:
            Invalid: `invalid.manifest` with `where`.
        """
        if len(data) > MANIFEST_BYTES_MAX:
            raise Invalid(
                "manifest", f"`{source}` has over {MANIFEST_BYTES_MAX} bytes", hint="move the prompt to a file", field=source
            )
        return _build(parse_yaml(data, source), package, _finder(parents, ()))

    @classmethod
    def from_dict(
        cls, manifest: Mapping[str, Any], *, folder: str | Path | None = None, parents: Parents | None = None
    ) -> AgentImage:
        """Make an image of a manifest that is already data.

        Args:
            manifest: The keys of a manifest; `agentos: 1` may be left out.
            folder: Package that file names are relative to and confined to. None is for manifests that the host wrote itself:
                relative to the current folder, confined to nothing.
            parents: Finds the image that `from` names.

        Raises:
            Invalid: `invalid.manifest` with `field`.
        """
        package = Folder(Path(folder)) if folder is not None else Folder(Path(), root=Path("/"))
        return _build(as_node({"agentos": 1, **manifest}), package, _finder(parents, ()))

    @classmethod
    def host(cls, name: str = "host", capabilities: Iterable[str] = (), **manifest: Any) -> AgentImage:
        """Return an image of a process that the embedding app drives. `manifest` holds further keys of a manifest.

        Raises:
            Invalid: `invalid.manifest` with `field`.
        """
        return cls._made(name, {"kind": "host"}, capabilities, manifest)

    @classmethod
    def program(cls, name: str, capabilities: Iterable[str] = (), **manifest: Any) -> AgentImage:
        """Return an image that runs the Python program which the host registered as `name`, and is called like it.

        Raises:
            Invalid: `invalid.manifest` with `field`.
        """
        return cls._made(name, {"kind": "python", "name": name}, capabilities, manifest)

    @classmethod
    def _made(cls, name: str, program: dict[str, Any], capabilities: Iterable[str], manifest: dict[str, Any]) -> AgentImage:
        asked = capabilities if isinstance(capabilities, str) else list(capabilities)
        return cls.from_dict({"name": name, "program": program, "capabilities": asked, **manifest})

    @property
    def ref(self) -> str:
        """The name that other images and processes use: ``name:version``."""
        return f"{self.name}:{self.version}"

    @cached_property
    def digest(self) -> str:
        """Identity of the image: sha256 in hex over its canonical content, the embedded files included."""
        return hashlib.sha256(to_json({"agentos": 1, "image": self.to_data()})).hexdigest()

    def to_data(self) -> dict[str, Any]:
        """Return the image as plain data. What has its default is left out, so that new fields change no digest."""
        return _differing(self)

    @classmethod
    def from_data(cls, data: dict[str, Any]) -> AgentImage:
        """Return the image that `to_data` described.

        Raises:
            KernelPanic: the data is damaged. It comes from the store, so this is never user input.
        """
        try:
            return msgspec.convert(data, cls)
        except msgspec.ValidationError as error:
            raise KernelPanic(f"stored image cannot be decoded: {error}") from error


def _differing(struct: msgspec.Struct) -> dict[str, Any]:
    data: dict[str, Any] = {}
    for field in msgspec.structs.fields(struct):
        value = getattr(struct, field.name)
        default = field.default if field.default_factory is msgspec.NODEFAULT else field.default_factory()
        if value != default:
            data[field.name] = _plain(value)
    return data


def _plain(value: Any) -> Any:
    if isinstance(value, msgspec.Struct):
        return _differing(value)
    return [_plain(item) for item in value] if isinstance(value, tuple) else value


def _load(path: Path, parents: Parents | None, chain: tuple[Path, ...]) -> AgentImage:
    if len(chain) >= IMAGE_PARENTS_MAX or path in chain:
        raise Invalid(
            "manifest", f"`{path}` is its own parent, or the chain of `from` is too long", field="from", hint="break the chain"
        )
    try:
        with path.open("rb") as file:
            data = file.read(MANIFEST_BYTES_MAX + 1)
    except OSError as error:
        reason = error.strerror or "it cannot be read"
        raise Invalid(
            "manifest", f"`{path}`: {reason.lower()}", hint="name the YAML file of an image", field=str(path)
        ) from error
    if len(data) > MANIFEST_BYTES_MAX:
        raise Invalid(
            "manifest", f"`{path}` has over {MANIFEST_BYTES_MAX} bytes", hint="move the prompt to a file", field=str(path)
        )

    def beside(ref: str) -> AgentImage | None:
        sibling = path.with_name(f"{ref.partition(':')[0]}.yaml")
        image = _load(sibling, parents, (*chain, path)) if sibling.is_file() and sibling != path else None
        return image if image and image.ref == ref else None

    return _build(parse_yaml(data, str(path)), Folder(path.parent), _finder(parents, (beside,)))


def _finder(parents: Parents | None, first: tuple[Parents, ...]) -> Parents:
    finders = (*first, parents) if parents else first

    def find(ref: str) -> AgentImage | None:
        return next((image for finder in finders if (image := finder(ref)) is not None), None)

    return find


def _build(node: Node, package: Package, parents: Parents) -> AgentImage:
    fields = read_manifest(node, package)
    ref = fields.get("parent")
    if ref is None:
        return AgentImage(**fields)
    parent = parents(ref)
    if parent is None:
        at: Node = node.value["from"]
        raise at.wrong(
            f"parent image `{ref}` is not known", f"put `{ref.partition(':')[0]}.yaml` beside the manifest or register it"
        )
    return _inherit(node, fields, parent)


def _inherit(node: Node, fields: dict[str, Any], parent: AgentImage) -> AgentImage:
    own = fields.get("limits", {})
    for key, budget in BUDGET_KEYS.items():
        if budget in own and budget in parent.limits and own[budget] > parent.limits[budget]:
            at: Node = node.value["limits"].value[key]
            raise at.wrong(
                f"`{at.path}` is {at.raw}, above the {parent.limits[budget]} of parent `{parent.ref}`", "limits may only shrink"
            )
    merged = {**fields, "limits": {**parent.limits, **own}, "ceilings": (*parent.ceilings, parent.capabilities)}
    if "version" not in merged:
        merged["version"] = "1"
    image = msgspec.structs.replace(parent, **merged)
    if image.body.kind == "react" and not image.prompt:
        raise node.wrong("`prompt` is missing", f"parent `{parent.ref}` has none either")
    return image
