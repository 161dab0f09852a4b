"""shell: the ways in for people; today the command line `agentos VERB`.

Owns: the table of verbs, parsing, formats and tables, the frames that asks are shown in, exit statuses, and what is remembered between
commands (which image's request a person has confirmed, which workspace a run belongs to).
Must never: decide, mint or journal anything past the embedded API; import an app's code that nobody named on the command line; print
what an agent wrote without making its control characters visible.
Invariants: agent-text-is-inert (escape), one-status-table (status), one-document (output).
"""
