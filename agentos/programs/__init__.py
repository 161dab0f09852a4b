"""programs: what a process runs.

Owns: the registry of Python programs, the `sys` object a program calls through, script and python programs, save points and replay order.
Must never: reach a device except through `Syscalls`, run a program that the host did not register (stored data imports nothing), or
journal anything while a program is being unwound.
Invariants: resume-never-reruns, visibility-is-not-authority.
"""
