"""devices: the doors to the outside.

Owns: `fs` (files beneath mounts) and `app` (devices made of an application's own Python functions).
Must never: decide anything, keep state of processes, journal, or act without spending a permit. Nothing here imports the kernel, the
memory, the policy or the store: late facts are decided by `permit.recheck`, before-images are kept by `permit.keep`.
Invariants: no-effect-without-permit, check-before-observe, beneath-the-mount, old-or-new.
Source: openat2(2), renameat2(2).
"""
