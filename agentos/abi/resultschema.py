"""Checking a value against the JSON schema that an image declares for its result. Source: JSON Schema 2020-12, by the library `jsonschema`.

References lead nowhere but inside the schema itself: nothing is fetched.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from agentos.abi.codec import to_json
from agentos.errors import Invalid

__all__ = ["check_result"]


def check_result(value: Any, schema: dict[str, Any]) -> None:
    """Check plain data against a schema.

    Raises:
        Invalid: `invalid.argument` with `field`, the place of the first thing that does not fit; `invalid.manifest`, the schema is none.
    """
    from jsonschema.exceptions import best_match  # noqa: PLC0415 - only images with a result schema need it

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

    parsed = json.loads(schema)
    kind = validators.validator_for(parsed)
    kind.check_schema(parsed)
    return kind(parsed)
