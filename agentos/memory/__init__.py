"""memory: typed, versioned, labelled objects.

Owns: named objects in namespaces, their versions and links, and the ops `obj.*`.
Must never: speak SQL (that is the store's), grant anything by a name, read across namespaces.
Invariants: scope-is-mandatory, labels-join.
"""
