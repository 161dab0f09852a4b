"""progent: Progent's policies as policies of ours.

translate    the rules and their order, safely or as exactly as it can be said
read         the files: JSON and Python literals
schema       one restriction of an argument -> a condition
regex        its patterns -> patterns of this language
shape        what kinds of value a restriction leaves
"""

from __future__ import annotations

from agentos.policy.progent.translate import Doubt, Imported, import_progent

__all__ = ["Doubt", "Imported", "import_progent"]
