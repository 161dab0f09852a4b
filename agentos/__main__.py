"""`python -m agentos`: the command line."""

from __future__ import annotations

from agentos.shell.main import main

raise SystemExit(main())
