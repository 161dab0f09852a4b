"""kernel: who exists, who may do what, who waits for what, and who runs next.

Owns: the process table and its lineage, capabilities, budgets, messages, timers, asks, the scheduler, recovery at open, and the ops
that serve them (`kernel.ops`).
Must never: touch the outside world, speak SQL, know a device or a program (it gets a `Runner` at boot), decide a policy itself.
Invariants: children-are-never-wider, revoke-wins, one-shot-once, no-starvation, a bounded run never changes a process's fate.
Source: xv6's proc table and sleep/wakeup; seL4's capability derivation tree; start-time fair queueing (Goyal, Vin, Cheng 1996).

State lives in memory and is made durable by the journal: a function here checks, changes memory, and leaves `Change`s that are
appended in the same step, without an await between (check-then-act never spans one).
"""
