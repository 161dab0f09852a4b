"""The table of verbs: what the command line, completion, the docs and the tests read. A verb that is not here does not exist.

A verb is an async (or plain) function of its module under `agentos.shell.verbs`, named like the verb with `_` between its words. Its first
parameter is the `Shell`, the others are its arguments and options; it returns an exit status or None. The modules are loaded when needed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Final

__all__ = ["VERBS", "Verb", "find"]


@dataclass(frozen=True, slots=True)
class Verb:
    """One verb: its words, the module that has it, and what it does in half a line."""

    name: str
    module: str
    summary: str

    def load(self) -> Callable[..., Any]:
        """Return the function of the verb."""
        function: Callable[..., Any] = getattr(import_module(f"agentos.shell.verbs.{self.module}"), self.name.replace(" ", "_"))
        return function


VERBS: Final = (
    Verb("run", "run", "start a process, follow it, print its result; again after a crash: go on"),
    Verb("spawn", "run", "start a process and print its pid"),
    Verb("wait", "run", "follow a process to its end and print its result"),
    Verb("attach", "run", "follow a process in this terminal, and talk to it"),
    Verb("schedule", "schedules", "have processes started every so often, by a calendar, or once"),
    Verb("schedules", "schedules", "list schedules, pause and resume them"),
    Verb("unschedule", "schedules", "end schedules"),
    Verb("up", "schedules", "run the kernel of this store until it is interrupted"),
    Verb("ps", "processes", "list processes"),
    Verb("tree", "processes", "show who started whom"),
    Verb("status", "processes", "show one process, or the store as a whole"),
    Verb("kill", "signals", "end processes and their descendants"),
    Verb("pause", "signals", "stop processes at their next call"),
    Verb("resume", "signals", "let paused processes go on"),
    Verb("send", "signals", "send a process a message"),
    Verb("checkpoint", "checkpoints", "name this point of a process and its descendants"),
    Verb("checkpoints", "checkpoints", "list checkpoints, or forget one"),
    Verb("restore", "checkpoints", "take a process back to a checkpoint, or start it once more from there"),
    Verb("fork", "checkpoints", "start a process from what another was: now, at a checkpoint, at any row"),
    Verb("undo", "undo", "take back what a process, a call, or everything since a checkpoint did to files"),
    Verb("merge", "undo", "make the files of a speculative process true"),
    Verb("drop", "undo", "throw away what a speculative process has tried"),
    Verb("diff", "checkpoints", "show what has changed between two checkpoints, or since one"),
    Verb("caps", "authority", "list live capabilities"),
    Verb("grant", "authority", "give a process a capability"),
    Verb("revoke", "authority", "take a capability back, and all derived from it"),
    Verb("check", "authority", "decide a call without making it"),
    Verb("explain", "authority", "decide a call without making it, and say why"),
    Verb("asks", "asks", "list what waits for a person"),
    Verb("approve", "asks", "approve an ask, or answer a question"),
    Verb("deny", "asks", "deny an ask"),
    Verb("serve", "serve", "serve pages on which people answer asks from elsewhere"),
    Verb("cost", "cost", "show what models cost, by process, model or day"),
    Verb("log", "journal", "show what a process did, line by line"),
    Verb("audit", "journal", "show or verify the audit trail"),
    Verb("replay", "replay", "run a process again from its journal, and show where it differs"),
    Verb("backup", "upkeep", "copy the store into a new file, verified, while work goes on"),
    Verb("archive", "upkeep", "move the rows of what is over into the archive, where they take less room"),
    Verb("erase", "upkeep", "erase the content of what is over, down to the bytes of the file"),
    Verb("tidy", "upkeep", "apply the retention rules and remove what nothing refers to"),
    Verb("retention ls", "upkeep", "list the retention rules"),
    Verb("retention add", "upkeep", "make a retention rule: archive or erase what is over, after a while"),
    Verb("retention rm", "upkeep", "end a retention rule"),
    Verb("policy check", "policies", "check policy files"),
    Verb("policy fmt", "policies", "print policy files in their canonical spelling"),
    Verb("policy explain", "policies", "decide a call without making it, and say why"),
    Verb("policy diff", "policies", "what one policy lets through and another does not"),
    Verb("policy learn", "policymaking", "write the narrowest policy that admits a recorded run"),
    Verb("policy import progent", "policymaking", "translate a Progent policy"),
    Verb("policy schema", "schemas", "describe the policy language and every op, for editors"),
    Verb("image ls", "images", "list registered images"),
    Verb("image inspect", "images", "show an image: what it runs and what it requests"),
    Verb("image verify", "imagecheck", "check all that an image says, its policy's tests included"),
    Verb("image diff", "imagecheck", "show in what two images differ"),
    Verb("image commit", "checkpoints", "make an image of a checkpoint: what it had worked out, to start from"),
    Verb("image schema", "schemas", "print the JSON schema of image manifests, for editors"),
    Verb("doctor", "doctor", "say whether this machine and this store are in order"),
    Verb("completion", "completion", "print a completion script for your shell"),
)


def find(name: str) -> Verb | None:
    """Return the verb of that name, or None."""
    return next((verb for verb in VERBS if verb.name == name), None)
