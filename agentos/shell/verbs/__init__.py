"""verbs: one module per group of verbs, as the registry lists them.

Owns: what each verb does with the embedded API and what it shows.
Must never: parse a command line, map an error to a status, or write to a stream; that is `parser`, `status` and `output`.
"""
