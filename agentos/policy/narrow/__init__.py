"""narrow: is one policy layer within another? `compare` for `policy.update`, `diff` for people; each answer with the call that shows it.

compare      the question, op by op
op           one op: the samples that every combination of answers of both layers needs
call         a sample made into a real call, and the witness
automaton    sets of texts as languages, explored with a bound
resource, url, argv, text, value, flow    representatives of what a test can look at
probe, later, static, label    what both layers look at; ops mounted later; limits and obligations; label statements
"""

from __future__ import annotations

from agentos.policy.narrow.compare import Comparison, OpDifference, Witness, compare, diff

__all__ = ["Comparison", "OpDifference", "Witness", "compare", "diff"]
