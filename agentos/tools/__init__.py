"""tools: what a model sees of the op table. A tool is a syscall by another name; showing one grants nothing.

Owns: names and schemas on the wire, which ops a process is shown, the ops `tool.*`.
Must never: decide anything, or reach a device. Every call that a model wants made goes through the door.
"""
