"""File labels of one call, from admission to settlement. The table is `kernel.filelabel`.

    decide    who may make a file executable                                `check_permissions`
    ADMIT     what is about to be written carries the writer's label        `before_effect`
    device    the path that is really used, once it is known                `touch`
    SETTLE    what was read, replaced, moved or deleted                     `settle_files`

Paths have one name each, also where two mounts show the same file (`core.place`).
"""

from __future__ import annotations

from typing import Final

from agentos.abi.labels import SECRET
from agentos.abi.records import Change
from agentos.abi.resource import Resource
from agentos.broker.labels import call_label, is_errand
from agentos.broker.request import FileUse, Request
from agentos.errors import Denied
from agentos.kernel.core import Core

__all__ = ["before_effect", "check_permissions", "compared_labels", "found_labels", "settle_files", "touch"]

_WRITES: Final = frozenset({"fs.write", "fs.mkdir"})
_READS: Final = frozenset({"fs.read", "fs.stat"})
_TELLS: Final = frozenset({"fs.write", "fs.delete"})
"""Their results name the content that was there by a digest: a short one can be guessed from it, but nobody is fooled by it."""


def used(call: Request) -> FileUse:
    """Return what is known of the paths that a call uses."""
    if call.files is None:
        call.files = FileUse()
    return call.files


def check_permissions(call: Request) -> None:
    """Refuse to make an executable file, unless the host makes it itself, as an undo does: it is code that others may run.

    A hook or a script that an agent wrote does nothing until somebody means it to; one with these bits does.

    Raises:
        Denied: `denied.capability`.
    """
    if int(call.args["permissions"], 8) & 0o111 and not is_errand(call):
        hint = "write it without, and let a person make it executable"
        raise Denied("capability", "no process may make an executable file", hint=hint, field="permissions")


def before_effect(core: Core, call: Request, changes: list[Change]) -> None:
    """Label what the call is about to write, in the append that admits it."""
    if call.op.name == "fs.move":
        core.files.raise_to(core.place(call.resources[1].text), call_label(call), changes)
    if call.op.name in _WRITES:
        path = core.place(call.resources[0].text)
        used(call).found = core.files.at(path)
        core.files.raise_to(path, call_label(call), changes)
        core.files.begin(path)
        used(call).paths[0] = path


def touch(core: Core, call: Request, path: str, index: int) -> None:
    """Take note of the path that a device really uses; it is labelled at once if the call writes it.

    What lies below a folder that is moved, deleted or listed is decided path by path; the folder is what was used.
    """
    use = used(call)
    path, known, name = core.place(path), use.paths.get(index), call.op.name
    if call.op.inside:  # of a file overlay, which keeps labels with its own records
        use.paths.setdefault(index, path)
        return
    if name == "fs.move" and index == 0:
        bits = call.process.stack.labels.resource(Resource("path", path, path))
        use.moved.update({path: bits} if bits else {})
    if known is not None and (path == known or path.startswith(known.rstrip("/") + "/")):
        return
    if name == "fs.mkdir" and known is not None and known.startswith(path.rstrip("/") + "/"):
        core.files.raise_to(path, call_label(call), use.labels)  # a folder that is made on the way
        return
    use.paths[index] = path
    if name in _WRITES:
        use.found = core.files.at(path)
        core.files.raise_to(path, call_label(call), use.labels)
        core.files.begin(path)
        if known is not None and not core.files.end(known):
            use.is_alone = False


def found_labels(core: Core, call: Request) -> int:
    """Return the label that what a call replaces, moves or removes had before it: what `undo` gives it back."""
    use = used(call)
    if call.op.name == "fs.write":
        return use.found
    return core.files.under(use.paths.get(0, core.place(call.resources[0].text))) if call.op.name.startswith("fs.") else 0


def compared_labels(core: Core, call: Request) -> int:
    """Return the label of the file that a call with `if_digest` compares: how it ends tells what the file holds, also by failing."""
    if not call.op.name.startswith("fs.") or call.args.get("if_digest") is None:
        return 0
    use, labels = used(call), call.process.stack.labels
    found = use.found
    for path in {*use.paths.values(), *(core.place(resource.text) for resource in call.resources)}:
        found |= core.files.at(path) | labels.resource(Resource("path", path, path))
    return found


def settle_files(core: Core, call: Request, *, succeeded: bool, changes: list[Change]) -> int:
    """Bring file labels up to date with what happened; returns the labels of what was read, or is told by its digest."""
    name, files = call.op.name, core.files
    if not name.startswith("fs."):
        return 0
    use = used(call)
    changes += use.labels
    paths = [use.paths.get(index, core.place(resource.text)) for index, resource in enumerate(call.resources)]
    if name == "fs.list":
        return files.under(paths[0]) if succeeded and len(files) else 0
    if name in _READS:
        return files.at(paths[0]) if succeeded else 0
    alone = name not in _WRITES or 0 not in use.paths or (files.end(paths[0]) and use.is_alone)
    told = found_labels(core, call) & SECRET | compared_labels(core, call) if succeeded and name in _TELLS else 0
    if succeeded:
        _settle_write(core, call, paths, changes, alone=alone)
    return told


def _settle_write(core: Core, call: Request, paths: list[str], changes: list[Change], *, alone: bool) -> None:
    """Move, drop or replace labels; a file that others wrote to at the same time keeps the join of all their labels."""
    name, files = call.op.name, core.files
    if name == "fs.move":
        files.move(paths[0], paths[1], changes)
        files.raise_to(paths[1], call_label(call), changes)
        for path, bits in used(call).moved.items():  # what a statement says of the old place stays with what came from there
            files.raise_to(paths[1] + path[len(paths[0]) :], bits, changes)
    elif name == "fs.delete":
        files.remove(paths[0], changes)
    elif name == "fs.write" and call.args.get("mode") != "append" and alone:
        files.replace(paths[0], call_label(call), changes)
    elif name == "fs.write":
        files.raise_to(paths[0], call_label(call), changes)
