"""Checking a value against the JSON schema that an image declares for its result. Source: JSON Schema 2020-12, by the library `jsonschema`.

References lead nowhere but inside the schema itself: nothing is fetched. Patterns are those of RE2 and its kin, which take time in
proportion to the text: a schema may be anybody's, the text is a model's, and the kernel has one loop.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextvars import ContextVar
from functools import lru_cache
from typing import Any, Final, cast

from agentos.abi.codec import to_json
from agentos.errors import Invalid

__all__ = ["check_result"]

_REFERENCES_MAX: Final = 20_000  # that are followed for one value; a short schema may ask for any number
_left: ContextVar[list[int]] = ContextVar("references left")
_HAS_DIGITS: Final = "(?!^[-+.]*$)"  # how pydantic says it of a decimal; there is no other look ahead


def check_result(value: Any, schema: dict[str, Any]) -> None:
    """Check plain data against a schema.

    Raises:
        Invalid: `invalid.argument` with `field`, the place of the first thing that does not fit; `invalid.manifest`, the schema is none.
    """
    from jsonschema.exceptions import best_match  # noqa: PLC0415 - only images with a result schema need it

    _left.set([_REFERENCES_MAX])
    try:
        found = best_match(_validator(to_json(schema)).iter_errors(value))
    except Exception as error:
        raise Invalid(
            "manifest", f"the schema of the result cannot be used: {error}"[:500], hint="give a JSON schema"
        ) from error
    if found is not None:
        field = ".".join(str(part) for part in found.absolute_path) or "result"
        raise Invalid(
            "argument", f"the result does not fit its schema: {found.message}"[:500], hint=f"at `{field}`", field=field
        )


@lru_cache(maxsize=64)
def _validator(schema: bytes) -> Any:
    import json  # noqa: PLC0415 - with the library

    from jsonschema import validators  # noqa: PLC0415 - as above
    from referencing import Registry  # noqa: PLC0415 - as above

    parsed = json.loads(schema)
    if b'"patternProperties"' in schema:
        raise ValueError("it has `patternProperties`, which are not checked here")
    kind = validators.validator_for(parsed)
    kind.check_schema(parsed)
    follow = kind.VALIDATORS.get("$ref")

    def check_reference(validator: Any, reference: str, value: Any, schema: Any) -> Iterator[Any]:
        left = _left.get()
        left[0] -= 1
        if left[0] < 0 or follow is None:
            raise ValueError(f"over {_REFERENCES_MAX} references to follow")
        return cast("Iterator[Any]", follow(validator, reference, value, schema))

    own: Any = validators.extend(kind, {"pattern": _check_pattern, "$ref": check_reference})  # type: ignore[no-untyped-call]
    return own(parsed, registry=Registry())


def _check_pattern(validator: Any, pattern: str, value: Any, schema: Any) -> Iterator[Any]:
    from jsonschema.exceptions import ValidationError  # noqa: PLC0415 - as above

    if isinstance(value, str) and not _matches(pattern, value):
        yield ValidationError(f"{value!r} does not match {pattern!r}")


def _matches(pattern: str, value: str) -> bool:
    if _HAS_DIGITS in pattern:
        return bool(value.strip("-+.")) and _matches(pattern.replace(_HAS_DIGITS, "", 1), value)
    return bool(_compiled(pattern).isinstance_python(value))


@lru_cache(maxsize=256)
def _compiled(pattern: str) -> Any:
    from pydantic_core import SchemaValidator, core_schema  # noqa: PLC0415 - as above

    return SchemaValidator(core_schema.str_schema(pattern=pattern, regex_engine="rust-regex", strict=True))
