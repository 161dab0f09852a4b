"""policy schema, image schema: descriptions for editors and other tools."""

from __future__ import annotations

import json
from typing import Any

from agentos.shell.context import Shell
from agentos.shell.devicefile import table_with
from agentos.shell.output import Page
from agentos.shell.verbs.policies import Devices

__all__ = ["image_schema", "policy_schema"]


def policy_schema(shell: Shell, devices: Devices = None) -> None:
    """Describe the policy language and every op that it can name: arguments, attributes, sinks, effects, resources, results."""
    from agentos.policy.schema import language_schema  # noqa: PLC0415 - describing is rare

    _emit(shell, language_schema(table_with(devices)))


def image_schema(shell: Shell) -> None:
    """Print the JSON schema of image manifests, for editors that complete and check YAML."""
    from agentos.abi.imageschema import manifest_schema  # noqa: PLC0415 - describing is rare

    _emit(shell, manifest_schema())


def _emit(shell: Shell, data: dict[str, Any]) -> None:
    shell.output.emit(Page(data, text=json.dumps(data, ensure_ascii=False, indent=2), name=lambda _: data["title"]))
