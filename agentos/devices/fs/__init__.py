"""fs: files beneath mounts, as every process sees them: `/` is the workspace, other mounts lie under `/mnt/NAME`.

Owns: descriptors of the mount roots, the resolution of paths, atomic writes and their before-images.
Must never: open a path that was not decided, follow a link in the kernel, or show a half-written file.
"""

from __future__ import annotations

from agentos.devices.fs.system import FileSystem

__all__ = ["FileSystem"]
