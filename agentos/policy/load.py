r"""Text -> layer: parse, take used files in, resolve sets, check against the op table, compile, run the file's own expectations.

Protocol: `check_text` returns everything that is wrong or doubtful; `load_layer` raises on the first error. Reading files is the
caller's: `use(name)` returns the text of a used file, or None.

A used file must load by itself; then its rules and sets count as if they stood in the file that uses it. `Layer.text` carries the used
files behind form feeds (``\f``, name, newline, text), so a stored layer loads again without `use`, to the same digest.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from agentos.abi.limits import POLICY_BYTES_MAX, POLICY_RULES_MAX
from agentos.abi.op import OpTable
from agentos.policy.expect import check_expect
from agentos.policy.layer import Layer
from agentos.policy.parse import parse_file
from agentos.policy.problems import At, Problem, Refusal, invalid, problem_of
from agentos.policy.statements import Statements, resolve
from agentos.policy.syntax import Expect, File, Label, Let, Limit, Require, Rule, Use

__all__ = ["CheckReport", "Policy", "check_text", "load_layer"]

_USES_MAX: Final = 32
_BREAK: Final = "\f"

Reader = Callable[[str], "str | None"]


@dataclass(frozen=True, slots=True)
class Policy:
    """A policy text before it is loaded. `use` reads the files it uses: name -> text, or None when there is none."""

    text: str
    source: str = "policy"
    use: Reader | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class CheckReport:
    """What `check_text` found. `layer` is None when there are errors."""

    errors: tuple[Problem, ...]
    warnings: tuple[Problem, ...]
    layer: Layer | None


def load_layer(text: str, *, source: str, table: OpTable, use: Reader | None = None) -> Layer:
    """Return the layer that `text` describes.

    Args:
        text: The file.
        source: Its name; rules are named ``source:line``.
        table: The ops that exist; nothing else can be named.
        use: Reads used files.

    Raises:
        Invalid: `invalid.policy` for the first error, with `where` (``file:line:col``), `line`, `col`, `source_line`; `errors` lists all.
    """
    loader = _Loader(table, use)
    layer = loader.load(text, source)
    if layer is None:
        raise invalid(loader.problems)
    return layer


def check_text(text: str, *, source: str, table: OpTable, use: Reader | None = None) -> CheckReport:
    """Return every error of `text`, and for a text without errors what is doubtful about it. Never raises for the text."""
    from agentos.policy.lint import warnings_of  # noqa: PLC0415 - only checking needs it

    loader = _Loader(table, use)
    layer = loader.load(text, source)
    if layer is None:
        return CheckReport(tuple(loader.problems), (), None)
    return CheckReport((), tuple(warnings_of(layer, text.partition(_BREAK)[0], table)), layer)


class _Loader:
    """One load: the used texts seen so far, in order, and what is wrong."""

    def __init__(self, table: OpTable, use: Reader | None) -> None:
        self._table = table
        self._use = use
        self._texts: dict[str, str] = {}
        self._layers: dict[str, Layer] = {}
        self._open: list[str] = []
        self.problems: list[Problem] = []

    def load(self, text: str, source: str) -> Layer | None:
        main, *carried = text.split(_BREAK)
        for part in carried:
            name, _, used = part.partition("\n")
            self._texts[name] = used
        layer = self._file(main, source)
        if layer is None or self.problems:
            self.problems.sort(key=lambda problem: (problem.source != source, problem.at))
            return None
        whole = main + "".join(f"{_BREAK}{name}\n{used}" for name, used in sorted(self._texts.items()) if name in self._layers)
        return replace(layer, text=whole, digest=_digest(whole))

    def _file(self, text: str, source: str) -> Layer | None:
        before = len(self.problems)
        tree, refusals = parse_file(text)
        self._report(refusals, source, text)
        if tree is None:
            return None
        used = self._used(tree, source, text)
        sets = self._sets(tree, used, source, text)
        found = self._statements(tree, used, sets, source, text)
        if len(self.problems) > before:
            return None
        layer = found.layer(tree, (source, text, _digest(text)), sets)
        for statement in tree.statements:
            if isinstance(statement, Expect):
                self._try(lambda found=statement: check_expect(found, layer, self._table), source, text)  # type: ignore[misc]
        return layer if len(self.problems) == before else None

    def _report(self, refusals: list[Refusal], source: str, text: str) -> None:
        self.problems += [problem_of(refusal, source, text) for refusal in refusals]

    def _try(self, step: Callable[[], None], source: str, text: str) -> None:
        try:
            step()
        except Refusal as refusal:
            self._report([refusal], source, text)

    # --- used files ---------------------------------------------------------------------------------------------------------

    def _used(self, tree: File, source: str, text: str) -> list[Layer]:
        found: list[Layer] = []
        for statement in tree.statements:
            if isinstance(statement, Use):
                try:
                    layer = self._use_file(statement, tree.kind)
                except Refusal as refusal:
                    self._report([refusal], source, text)
                else:
                    found += [layer] if layer and layer not in found else []
        return found

    def _use_file(self, statement: Use, kind: str) -> Layer | None:
        name, at = statement.name, statement.at
        if name in self._open:
            raise Refusal("E017", f"`{name}` uses itself", at, hint=" uses ".join([*self._open, name]))
        if name not in self._layers:
            if len(self._layers) + len(self._open) >= _USES_MAX:
                raise Refusal("E017", f"more than {_USES_MAX} files are used", at, hint="put them into one")
            text = self._read(name, at)
            self._open.append(name)
            layer = self._file(text, name)
            self._open.pop()
            if layer is None:
                return None
            self._layers[name] = layer
        if kind == "restrict" and self._layers[name].kind == "policy":
            raise Refusal("E017", f"a `restrict` file cannot use the `policy` file `{name}`", at, hint="its allows would widen")
        return self._layers[name]

    def _read(self, name: str, at: At) -> str:
        if name not in self._texts:
            text = self._use(name) if self._use and _BREAK not in name and "\n" not in name else None
            if text is None:
                raise Refusal("E017", f"there is no file `{name}` to use", at, hint="paths are relative to this file")
            if _BREAK in text or len(text) > POLICY_BYTES_MAX:
                raise Refusal("E017", f"`{name}` holds a form feed or is longer than {POLICY_BYTES_MAX} bytes", at)
            self._texts[name] = text
        return self._texts[name]

    # --- sets and rules -----------------------------------------------------------------------------------------------------

    def _sets(self, tree: File, used: list[Layer], source: str, text: str) -> Mapping[str, tuple[str, ...]]:
        sets: dict[str, tuple[str, ...]] = {}
        for layer in used:
            for name, patterns in layer.sets.items():
                if sets.setdefault(name, patterns) != patterns:
                    refusal = Refusal(
                        "E015", f"two used files define the set `${name}` differently", At(1, 1), hint="rename one"
                    )
                    self._report([refusal], source, text)
        lets: dict[str, Let] = {}
        for statement in tree.statements:
            if isinstance(statement, Let):
                if statement.name in lets or statement.name in sets:
                    hint = "give it another name: order never matters, so a second definition cannot replace the first"
                    self._report(
                        [Refusal("E015", f"the set `${statement.name}` is defined twice", statement.at, hint=hint)],
                        source,
                        text,
                    )
                lets[statement.name] = statement
        for name, let in lets.items():
            try:
                sets[name] = tuple(dict.fromkeys(resolve(let.patterns, lets, sets, (name,))))
            except Refusal as refusal:
                self._report([refusal], source, text)
        return sets

    def _statements(
        self, tree: File, used: list[Layer], sets: Mapping[str, tuple[str, ...]], source: str, text: str
    ) -> Statements:
        found = Statements.of(used)
        for statement in tree.statements:
            try:
                if isinstance(statement, Rule | Limit | Require | Label):
                    found.add(statement, (source, tree.kind), self._table, sets)
            except Refusal as refusal:
                self._report([refusal], source, text)
        if len(found) > POLICY_RULES_MAX:
            self._report(
                [Refusal("E019", f"more than {POLICY_RULES_MAX} rules", At(1, 1), hint="split the file")], source, text
            )
        return found


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()
