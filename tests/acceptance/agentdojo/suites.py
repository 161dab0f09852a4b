"""AgentDojo's suites, mounted as devices: one device per suite, named after it, one op per tool.

Nothing about a tool is declared beyond its signature: every op has the default effect (once), no sinks and no trusted field, so what
protects the user is the policy file alone. The environment that a call works on is the one of the calling process.

Source: Debenedetti et al., AgentDojo: A Dynamic Environment to Evaluate Prompt Injection Attacks and Defenses for LLM Agents, 2024.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import agentos

VERSION = "v1.2.2"
SUITES = ("workspace", "travel", "banking", "slack")
POLICIES = Path(__file__).parents[2] / "policies" / "agentdojo"


@dataclass(frozen=True, slots=True)
class Step:
    """One tool call of a ground truth or of an attack."""

    verb: str
    args: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Task:
    """One task: what is asked for, the calls that do it, and how its environment is prepared."""

    name: str
    prompt: str
    steps: tuple[Step, ...]
    prepare: Callable[[Any], Any]


def suite_of(name: str, version: str = VERSION) -> Any:
    """One suite of the benchmark."""
    from agentdojo.task_suite import get_suite

    return get_suite(version, name)


def environment(suite: Any, injections: Mapping[str, str] | None = None) -> Any:
    """A fresh environment of a suite, with texts planted at its injection vectors."""
    return suite.load_and_inject_default_environment(dict(injections or {}))


def user_tasks(suite: Any) -> list[Task]:
    """The user tasks with their ground truth; computed on an environment without injections, as the benchmark's own answers are."""
    clean = environment(suite)
    return [_task(name, task.PROMPT, task, clean) for name, task in suite.user_tasks.items()]


def injection_tasks(suite: Any) -> list[Task]:
    """The injection tasks with their ground truth; `prompt` is the attacker's goal. Some have no calls: they want a sentence said."""
    clean = environment(suite)
    return [_task(name, task.GOAL, task, clean) for name, task in suite.injection_tasks.items()]


def _task(name: str, prompt: str, task: Any, clean: Any) -> Task:
    prepare = getattr(task, "init_environment", lambda world: world)
    steps = task.ground_truth(prepare(clean.model_copy(deep=True)))
    return Task(name, prompt, tuple(Step(step.function, dict(step.args)) for step in steps), prepare)


def device(suite: Any, environments: Mapping[int, Any]) -> agentos.Device:
    """The suite's tools as a device. `environments` has the environment of each process."""
    return agentos.Device.from_functions(suite.name, {tool.name: _function(tool, environments) for tool in suite.tools})


def _function(tool: Any, environments: Mapping[int, Any]) -> Callable[..., Any]:
    async def call(ctx: agentos.Call, **args: Any) -> Any:
        own = {name: depends.extract_dep_from_env(environments[ctx.pid]) for name, depends in tool.dependencies.items()}
        return plain(tool.run(**args, **own))

    parameters = [inspect.Parameter("ctx", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=agentos.Call)]
    for name, field in tool.parameters.model_fields.items():
        default = inspect.Parameter.empty if field.is_required() else field.default
        parameters.append(
            inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=_type(field.annotation))
        )
    call.__name__ = tool.name
    call.__doc__ = tool.description
    call.__signature__ = inspect.Signature(_defaults_last(parameters), return_annotation=Any)  # type: ignore[attr-defined]
    call.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters} | {"return": Any}
    return call


def _defaults_last(parameters: list[inspect.Parameter]) -> Iterable[inspect.Parameter]:
    return sorted(parameters, key=lambda parameter: parameter.default is not inspect.Parameter.empty)


def _type(annotation: Any) -> Any:
    """An argument's type; enumerations of words are taken as text, which the tool checks itself."""
    return str if inspect.isclass(annotation) and issubclass(annotation, str) else annotation


def plain(value: Any) -> Any:
    """A tool's result as plain data."""
    if hasattr(value, "model_dump"):
        return value.model_dump(mode="json", warnings=False)
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    return [plain(item) for item in value] if isinstance(value, list | tuple) else value
