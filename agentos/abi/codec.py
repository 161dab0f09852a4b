"""The one encoding of values that cross the door: canonical MessagePack.

A value that crosses is JSON-like data (None, bool, int, float, str, list, dict with str keys) or bytes, datetime, Decimal,
dataclasses and pydantic models, which are encoded as the data they hold and given their type again by the op's declared result.
Keys are sorted, so equal values have equal bytes: the same bytes serve the digest, the journal row and the replay.

This is not a general serialiser: nothing is imported or built by a name found in stored bytes, and decoding damaged bytes raises.
"""

from __future__ import annotations

import hashlib
from typing import Any

import msgspec

from agentos.errors import Invalid, KernelPanic

__all__ = ["decode", "digest", "encode", "plain", "to_json"]


def _foreign(value: Any) -> Any:
    """Give msgspec the data inside a pydantic model (it knows dataclasses and msgspec structs itself)."""
    fields = getattr(type(value), "__pydantic_fields__", None)
    if fields is not None:
        return value.__dict__
    wire = getattr(value, "__wire__", None)
    if wire is not None:
        return wire()
    raise NotImplementedError(f"a `{type(value).__name__}` cannot be stored")


_encoder = msgspec.msgpack.Encoder(order="deterministic", enc_hook=_foreign)
_decoder = msgspec.msgpack.Decoder()
_json = msgspec.json.Encoder(order="deterministic", enc_hook=_foreign)


def encode(value: Any) -> bytes:
    """Return the canonical bytes of a value.

    Raises:
        Invalid: `invalid.argument`, the value holds something that is not data, has keys that are not text, or is nested too deep.
    """
    try:
        return _encoder.encode(value)
    except (NotImplementedError, TypeError, ValueError, OverflowError, RecursionError) as error:
        reason = str(error) or "it is nested too deep"
        raise Invalid(
            "argument",
            f"value cannot be stored: {reason}",
            hint="use JSON types, bytes, dataclasses or pydantic models",
        ) from error


def decode(data: bytes) -> Any:
    """Return the plain data that `encode` wrote.

    Raises:
        KernelPanic: the bytes are damaged. Stored bytes are checked by hash before they come here, so this is never user input.
    """
    try:
        return _decoder.decode(data)
    except (msgspec.DecodeError, RecursionError) as error:
        raise KernelPanic(f"stored value cannot be decoded: {error}") from error


def plain(value: Any) -> Any:
    """Return `value` as it will look after a journey through the journal: ``decode(encode(value))``."""
    return decode(encode(value))


def to_json(value: Any) -> bytes:
    """Return canonical JSON for people and programs outside; bytes become base64 text."""
    return _json.encode(value)


def digest(*parts: bytes) -> bytes:
    """Return blake2b-256 over length-framed parts, so that no two lists of parts collide by concatenation."""
    hasher = hashlib.blake2b(digest_size=32)
    for part in parts:
        hasher.update(len(part).to_bytes(8, "little"))
        hasher.update(part)
    return hasher.digest()
