"""Loading the programs that a person names on the command line: `--program FILE.py`.

INVARIANT only-named-code-is-imported: a file is imported because it stands on the command line, never because an image or a store says so.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterable
from pathlib import Path

from agentos.errors import Invalid

__all__ = ["load_programs"]


def load_programs(files: Iterable[Path]) -> None:
    """Import each file by its path, so that the programs it declares are registered; its folder comes first on `sys.path`.

    Raises:
        Invalid: `invalid.argument`, there is no such file or it raises when it is imported.
    """
    for file in files:
        path = file.resolve()
        spec = importlib.util.spec_from_file_location(path.stem, path)
        if path.suffix != ".py" or not path.is_file() or spec is None or spec.loader is None:
            raise Invalid("argument", f"`{file}` is not a Python file", hint="give the path of a .py file", field="--program")
        if str(path.parent) not in sys.path:
            sys.path.insert(0, str(path.parent))
        module = importlib.util.module_from_spec(spec)
        sys.modules[path.stem] = module
        try:
            spec.loader.exec_module(module)
        except Exception as error:
            del sys.modules[path.stem]
            said = f"`{file}` cannot be imported: {type(error).__name__}: {error}"
            raise Invalid("argument", said, hint="mend it; `python FILE.py` shows where", field="--program") from error
