"""broker: the one door.

Owns: the walk of every syscall (`door`), what a person is asked about a call (`approval`), effects between intent and result (`effect`),
and what becomes of a recorded or interrupted call (`replay`).
Must never: keep state of its own that a crash would lose, let a device see a call that was not decided, or skip a row.
Invariants: no-effect-without-permit, check-before-observe, intent-before-effect, resume-never-reruns, rows-are-exact.
"""
