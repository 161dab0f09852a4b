"""Handing out texts that people asked for: to a file, all of it or nothing; to stdout, unchanged where a program reads it."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from agentos.errors import Invalid
from agentos.shell.output import Format, Output, Page

__all__ = ["hand_out", "replace_file"]


def hand_out(output: Output, text: str, page: Page) -> None:
    """Write a text to stdout: as it is for a pipe or a file, made visible in a terminal, as `page` in a format for programs."""
    if output.format is Format.TABLE and not output.is_tty:
        sys.stdout.write(text)
        sys.stdout.flush()
    else:
        output.emit(page)


def replace_file(path: Path, text: str) -> None:
    """Write `text` to `path` atomically: whoever reads sees the old file or the new one. The old one's permissions stay.

    A link is followed, so that the file it leads to changes and the link stays.

    Raises:
        Invalid: `invalid.argument`, it cannot be written; nothing was changed.
    """
    target = path.resolve()
    beside = target.with_name(f".{target.name}.{os.getpid()}.new")
    try:
        mode = target.stat().st_mode & 0o777 if target.exists() else 0o644
        handle = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        try:
            with os.fdopen(handle, "w", encoding="utf-8", newline="") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            beside.chmod(mode)
            beside.replace(target)
        except BaseException:
            beside.unlink(missing_ok=True)
            raise
    except OSError as error:
        reason = error.strerror or str(error)
        raise Invalid("argument", f"`{path}` cannot be written: {reason}", hint="give another path", field="file") from error
