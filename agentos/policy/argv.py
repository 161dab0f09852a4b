"""Command patterns: one glob per token, written and quoted as a shell would; nothing here is ever run by a shell.

`*` and `?` do not match ``/``, except that a token that is just ``*`` matches any one token. The first token is the executable: a
bare name or ``*`` there never matches a path. ``**`` as a token stands for any further tokens. Quoted characters stand for themselves.

INVARIANT interpreters-are-named: a command that runs other commands or code given to it (``bash``, ``env``, ``xargs``, ``python -c``) is
covered only by a pattern that names the executable literally and, for inline code, the very token that carries it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from agentos.policy.glob import DEEP, ONE, STAR, Deep, Part, Segment, Sequence_

__all__ = ["CODE_WORDS", "INTERPRETERS", "Argv", "argv_of"]

_RUNNERS: Final = frozenset({
    "sh", "bash", "dash", "ash", "zsh", "ksh", "fish", "csh", "tcsh", "busybox", "toybox", "env", "xargs", "parallel", "sudo", "su",
    "doas", "nohup", "timeout", "nice", "ionice", "setsid", "stdbuf", "time", "watch", "script", "strace", "ltrace", "gdb", "ssh",
    "chroot", "unshare", "nsenter", "flock", "awk", "gawk", "mawk", "nawk", "tclsh", "expect", "osascript", "pwsh",
})  # fmt: skip
"""Executables whose arguments are commands."""
_INLINE: Final = {
    "python": "c", "pypy": "c", "perl": "eE", "ruby": "e", "node": "ep", "nodejs": "ep", "bun": "ep", "deno": "", "php": "rBRE",
    "lua": "e", "luajit": "e", "Rscript": "e", "julia": "eE", "elixir": "e", "erl": "", "groovy": "e", "scala": "e",
}  # fmt: skip
"""Interpreters -> the short options that carry code."""
_INLINE_WORDS: Final = frozenset({"--eval", "--print", "--exec", "--run", "--expr", "eval", "-", "-eval"})
_VERSION: Final = re.compile(r"[-.]?[0-9][0-9.]*\Z")

INTERPRETERS: Final = _RUNNERS | _INLINE.keys()
"""The plain names of executables that may run commands or code given to them."""
CODE_WORDS: Final = _INLINE_WORDS
"""The tokens, also followed by ``=``, that give code to an interpreter, whichever it is."""


@dataclass(frozen=True, slots=True)
class Argv:
    """A command pattern taken apart."""

    tokens: Sequence_

    @property
    def literals(self) -> frozenset[str]:
        """The tokens without wildcards."""
        return frozenset(token.literal for token in self.tokens if isinstance(token, Segment) and token.literal is not None)

    @property
    def is_literal(self) -> bool:
        """True when no token has a wildcard."""
        return all(isinstance(token, Segment) and token.literal is not None for token in self.tokens)

    @property
    def executable(self) -> str | None:
        """The executable, where it is named literally."""
        first = self.tokens[0]
        return first.literal if isinstance(first, Segment) else None

    def names(self, argv: tuple[str, ...]) -> bool:
        """Say whether a command that the pattern matches is named well enough to be covered."""
        carrier = _carrier(argv)
        if carrier is None or self.is_literal:
            return True
        return self.executable is not None and carrier in self.literals

    def names_all_of(self, inner: Argv) -> bool:
        """Say whether every command that `inner` names is named by this pattern, given that it matches them all."""
        executable = inner.executable
        if executable is None:
            return True
        if inner.is_literal:
            return self.names(tuple(str(token.literal) for token in inner.tokens if isinstance(token, Segment)))
        name = _plain_name(executable)
        if name in _RUNNERS:
            return self.executable is not None
        if name not in _INLINE:
            return True
        carriers = {token for token in inner.literals if _carries(name, token)}
        return not carriers or (self.executable is not None and carriers <= self.literals)


def _plain_name(executable: str) -> str:
    return _VERSION.sub("", executable.rsplit("/", 1)[-1])


def _carrier(argv: tuple[str, ...]) -> str | None:
    """Return the token that carries commands or code, or None for a plain command; no token at all is the empty text."""
    name = _plain_name(argv[0])
    if name in _RUNNERS:
        return argv[0]
    if name not in _INLINE:
        return None
    return next((token for token in argv[1:] if _carries(name, token)), None if len(argv) > 1 else "")


def _carries(name: str, token: str) -> bool:
    """Say whether `token` may give code to interpreter `name`. Also true for some plain options: naming them is then needed."""
    if token in _INLINE_WORDS or token.partition("=")[0] in _INLINE_WORDS:
        return True
    return token.startswith("-") and not token.startswith("--") and any(flag in token for flag in _INLINE[name])


def argv_of(text: str) -> Argv:
    """Return the command pattern that `text` writes.

    Raises:
        ValueError: a quote is not closed, a token is empty, there is no token, or ``**`` stands inside a token.
    """
    tokens: list[Segment | Deep] = []
    for chars in _words(text):
        plain = "".join(char for char, _ in chars)
        quoted = any(is_quoted for _, is_quoted in chars)
        if plain == "**" and not quoted:
            if not tokens or tokens[-1] is not DEEP:
                tokens.append(DEEP)
            continue
        tokens.append(_token(chars, barred="" if plain == "*" and not quoted and tokens else "/"))
    if not tokens:
        raise ValueError("it has no token")
    return Argv(tuple(tokens))


def _token(chars: list[tuple[str, bool]], *, barred: str) -> Segment:
    if not chars:
        raise ValueError("a token is empty")
    parts: list[Part] = []
    for char, is_quoted in chars:
        if char == "*" and not is_quoted:
            if parts and parts[-1] is STAR:
                raise ValueError("`**` stands for whole tokens and cannot stand inside one")
            parts.append(STAR)
        elif char == "?" and not is_quoted:
            parts.append(ONE)
        elif parts and isinstance(parts[-1], str):
            parts[-1] += char
        else:
            parts.append(char)
    return Segment(tuple(parts), barred)


_WORD = re.compile(
    r"""\\(?P<escaped>.) | '(?P<single>[^']*)' | "(?P<double>(?:[^"\\]|\\.)*)" | (?P<space>\s+) | (?P<plain>[^\\'"\s]+)""",
    re.DOTALL | re.VERBOSE,
)


def _words(text: str) -> Iterator[list[tuple[str, bool]]]:
    """Split as a shell does: pairs of character and "was quoted" per token."""
    word: list[tuple[str, bool]] | None = None
    at = 0
    while at < len(text):
        match = _WORD.match(text, at)
        if match is None:
            raise ValueError("a quote is not closed, or it ends in `\\`")
        at = match.end()
        if match.lastgroup == "space":
            if word is not None:
                yield word
            word = None
            continue
        chars = match[match.lastgroup or 0]
        if match.lastgroup == "double":
            chars = re.sub(r"\\(.)", r"\1", chars, flags=re.DOTALL)
        word = (word or []) + [(char, match.lastgroup != "plain") for char in chars]
    if word is not None:
        yield word
