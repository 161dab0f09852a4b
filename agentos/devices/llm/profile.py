"""Profiles: what the host calls a model. An image names a profile; where the model is, its key and its price are the host's.

Protocol: `open(models=...)` gives drivers or `Profile`s by name; beside them stand the tables ``[models.NAME]`` of the host's configuration
file, and, where there is no profile `default`, the environment: OPENAI_MODEL with OPENAI_API_KEY or OPENAI_BASE_URL. Nothing here
looks at a key before a call needs it.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import msgspec

from agentos.abi.counting import Meter
from agentos.abi.labels import LEVELS
from agentos.abi.limits import MODEL_SLOTS, MODEL_TIMEOUT_S
from agentos.abi.model import ModelDriver, Usage
from agentos.abi.op import PROFILE_DEFAULT, closest
from agentos.devices.llm.openai import OpenAI
from agentos.errors import Invalid, Unavailable

__all__ = [
    "Price", "Profile", "config_path", "driver_from", "expect_model", "from_environment", "named_key", "read_config", "with_profiles",
]  # fmt: skip

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_MODEL_DEFAULT: Final = "gpt-5-mini"
_THREE_WAYS: Final = (
    "set OPENAI_API_KEY, or OPENAI_BASE_URL for a compatible server, or give a model: open(models=...), `--model scripted:FILE`"
)
_ONE_MORE: Final = (
    "another model is OPENAI_MODEL, a table [models.NAME] of the configuration file, or agentos.models.openai(MODEL)"
)


@dataclass(frozen=True, slots=True)
class Price:
    """US dollars per million tokens. `cached` is for input that the server had at hand; None is the price of input."""

    input: float = 0.0
    output: float = 0.0
    cached: float | None = None

    def of(self, usage: Usage) -> float:
        """Return what an answer cost, in US dollars."""
        cached = self.input if self.cached is None else self.cached
        fresh = max(usage.input - usage.cached, 0)
        return (fresh * self.input + usage.cached * cached + usage.output * self.output) / 1_000_000


@dataclass(slots=True)
class Profile:
    """One model, as the host offers it.

    Attributes:
        driver: Makes the attempts.
        price: What it costs; all 0 where that is not known.
        clearance: The strictest level of data that it may be told: public, internal or secret.
        window_tokens: The longest conversation that it takes, with its answer.
        output_tokens: Tokens kept free for the answer.
        slots: Attempts under way at once, shared fairly between trees.
        timeout_s: Seconds that one attempt may take.
        meter: How its counting compares with the estimate.
    """

    driver: ModelDriver
    price: Price = Price()
    clearance: str = "internal"
    window_tokens: int = 128_000
    output_tokens: int = 8_000
    slots: int = MODEL_SLOTS
    timeout_s: float = MODEL_TIMEOUT_S
    meter: Meter = field(default_factory=Meter)

    def __post_init__(self) -> None:
        """Check what the host gave.

        Raises:
            Invalid: `invalid.argument`.
        """
        if not hasattr(self.driver, "complete"):
            hint = "give an object with `async complete(ModelRequest) -> ModelReply`"
            raise Invalid("argument", f"`{type(self.driver).__name__}` is no model driver", hint=hint, field="models")
        if self.clearance not in LEVELS:
            raise Invalid(
                "argument", f"`{self.clearance}` is no level", hint=f"use one of {', '.join(LEVELS)}", field="clearance"
            )
        if not 0 < self.output_tokens < self.window_tokens:
            hint = "output_tokens come off window_tokens"
            raise Invalid(
                "argument", f"a window of {self.window_tokens} tokens leaves no room", hint=hint, field="window_tokens"
            )
        if self.slots < 1 or not self.timeout_s > 0:
            raise Invalid("argument", "slots and timeout_s are above 0", hint="leave them out", field="slots")


class _Price(msgspec.Struct, forbid_unknown_fields=True):
    """``price = {input = 0.25, output = 2.0, cached = 0.025}``: US dollars per million tokens."""

    input: float = 0.0
    output: float = 0.0
    cached: float | None = None


class _Table(msgspec.Struct, forbid_unknown_fields=True):
    """One table ``[models.NAME]`` of the configuration file."""

    model: str
    base_url: str | None = None
    key_env: str = "OPENAI_API_KEY"
    tokens_param: str = "max_completion_tokens"
    options: dict[str, Any] = {}
    price: _Price = msgspec.field(default_factory=_Price)
    clearance: str = "internal"
    window_tokens: int = 128_000
    output_tokens: int = 8_000
    slots: int = MODEL_SLOTS
    timeout_s: float = MODEL_TIMEOUT_S

    def profile(self, environ: Mapping[str, str]) -> Profile:
        """Return the profile that it describes."""
        driver = OpenAI(
            self.model, key=named_key(self.key_env, environ, self.base_url), base_url=self.base_url, tokens_param=self.tokens_param,
            options=self.options,
        )  # fmt: skip
        price = Price(self.price.input, self.price.output, self.price.cached)
        return Profile(
            driver, price, self.clearance, self.window_tokens, self.output_tokens, slots=self.slots, timeout_s=self.timeout_s
        )


def named_key(name: str, environ: Mapping[str, str], base_url: str | None) -> Any:
    """Return the function that gives the key in the environment variable `name`; a server of one's own may need none."""

    def key() -> str:
        found = environ.get(name, "")
        if not found and base_url is None:
            raise Unavailable("missing", f"the environment has no {name}", hint=f"set {name}", why="key", retry=False)
        return found or "none"

    return key


def with_profiles(given: Mapping[str, Any] | None, environ: Mapping[str, str] = os.environ) -> dict[str, Profile]:
    """Return every profile of a kernel: those that the host gave, then those of its configuration file, then of the environment.

    Raises:
        Invalid: `invalid.argument`, a driver is none, or the configuration file is wrong.
    """
    found = {name: _as_profile(name, driver) for name, driver in (given or {}).items()}
    for name, profile in read_config(config_path(environ), environ).items():
        found.setdefault(name, profile)
    if PROFILE_DEFAULT not in found:
        usual = from_environment(environ)
        if usual is not None:
            found[PROFILE_DEFAULT] = usual
    return found


def _as_profile(name: str, driver: Any) -> Profile:
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise Invalid(
            "argument", f"`{name}` is no name of a profile", hint="use letters, digits, `.`, `_` and `-`", field="models"
        )
    return driver if isinstance(driver, Profile) else Profile(driver, slots=getattr(driver, "slots", MODEL_SLOTS))


def config_path(environ: Mapping[str, str]) -> Path:
    """Return the host's configuration file: ``$AGENTOS_CONFIG``, else ``agentos/config.toml`` in its configuration folder."""
    given = environ.get("AGENTOS_CONFIG")
    base = environ.get("XDG_CONFIG_HOME")
    return Path(given) if given else (Path(base) if base else Path.home() / ".config") / "agentos" / "config.toml"


def read_config(path: Path, environ: Mapping[str, str]) -> dict[str, Profile]:
    """Return the profiles of a configuration file; a missing file has none, unless AGENTOS_CONFIG names it.

    Raises:
        Invalid: `invalid.argument` that says where the file is wrong.
    """
    try:
        data = tomllib.loads(path.read_text("utf-8"))
    except FileNotFoundError as error:
        if not environ.get("AGENTOS_CONFIG"):
            return {}
        raise Invalid("argument", f"`{path}` is not there", hint="AGENTOS_CONFIG names it", field="config") from error
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise Invalid(
            "argument", f"`{path}`: {error}", hint="it is a TOML file with tables [models.NAME]", field="config"
        ) from error
    tables = data.get("models", {})
    for key in data.keys() - {"models"}:
        raise Invalid("argument", f"`{path}` has no `{key}`", hint=closest(key, ["models"]) or "use [models.NAME]", field=key)
    if not isinstance(tables, dict):
        raise Invalid("argument", f"`{path}`: `models` is no table", hint="use [models.NAME]", field="models")
    return {name: _profile_of(path, name, table, environ) for name, table in tables.items()}


def _profile_of(path: Path, name: str, table: Any, environ: Mapping[str, str]) -> Profile:
    try:
        return msgspec.convert(table, _Table).profile(environ)
    except (msgspec.ValidationError, Invalid) as error:
        said = error.message if isinstance(error, Invalid) else str(error)
        hint = f"a profile has {', '.join(_Table.__struct_fields__)}"
        raise Invalid("argument", f"`{path}`, [models.{name}]: {said}", hint=hint, field="models") from error


def from_environment(environ: Mapping[str, str]) -> Profile | None:
    """Return the profile that OPENAI_API_KEY, OPENAI_BASE_URL and OPENAI_MODEL make, None without the first two."""
    base_url = environ.get("OPENAI_BASE_URL") or None
    if not (environ.get("OPENAI_API_KEY") or base_url):
        return None
    model = environ.get("OPENAI_MODEL") or _MODEL_DEFAULT
    return Profile(OpenAI(model, key=named_key("OPENAI_API_KEY", environ, base_url), base_url=base_url))


def expect_model(profiles: Mapping[str, Profile], name: str) -> Profile:
    """Return a profile.

    Raises:
        Invalid: `invalid.argument`, there is none of that name; the hint says how to get one.
    """
    profile = profiles.get(name)
    if profile is None:
        if not profiles:
            raise Invalid("argument", "no model is configured", hint=_THREE_WAYS, field="model")
        known = closest(name, profiles) or f"profiles are {', '.join(profiles)}; {_ONE_MORE}"
        raise Invalid("argument", f"no model `{name}` is configured", hint=known, field="model")
    return profile


def driver_from(text: str, profiles: Mapping[str, Profile]) -> Profile:
    """Return the profile that a text means, as `--model` takes it.

    Args:
        text: ``scripted:FILE`` (turns to say), ``replay:FILE`` (a recording), ``record:FILE`` (profile `default`, recorded) or a name.
        profiles: Every profile that there is.

    Raises:
        Invalid: `invalid.argument`, there is no such profile, or the file cannot be read or is none.
    """
    from agentos.devices.llm import scripted  # noqa: PLC0415 - a kernel with a real model needs neither

    kind, colon, file = text.partition(":")
    if colon and kind == "scripted":
        return Profile(scripted.ScriptedModel(scripted.read_turns(Path(file))))
    if colon and kind == "replay":
        return Profile(scripted.Recording(Path(file)))
    if colon and kind == "record":
        profile = expect_model(profiles, PROFILE_DEFAULT)
        return replace(profile, driver=scripted.Recorder(profile.driver, Path(file)))
    return expect_model(profiles, text)
