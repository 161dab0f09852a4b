"""abi: the vocabulary every other room speaks.

Owns: the value codec, resources, labels, limits, the op table's types and declarations, records of the journal and of state,
the image manifest, the Permit, and the two protocols `Syscalls` and `Runner`.
Must never: do I/O (but for reading an image's own package), keep state, know a device, a store or a policy.
Source: pure data and types; everything here can be imported by every room.
"""
