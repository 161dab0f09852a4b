"""runtime: a kernel that is alive, and the ways in.

Owns: boot and shutdown, the embedded API (`Kernel`, `Process`), the control socket and its client, the system clock.
Must never: decide, journal or perform anything itself: every call goes through the broker.
Invariants: nothing-outlives-the-runtime, a bounded run never changes a process's fate, acknowledged-is-durable.
"""
