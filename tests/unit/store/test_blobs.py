"""Objects as bytes: named by their hash, referred to without doubt, checked when they are read."""

from __future__ import annotations

import os
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentos.abi.limits import INLINE_BYTES_MAX
from agentos.errors import KernelPanic
from agentos.store import blobs


@given(st.binary(max_size=3_000) | st.integers(0, 200_000).map(bytes))
def test_an_object_unpacks_to_its_bytes(data: bytes) -> None:
    assert blobs.unpack_body(*blobs.pack_body(blobs.name_of(data), data)) == data


def test_only_bytes_that_shrink_are_compressed() -> None:
    codec_of = lambda data: blobs.pack_body(blobs.name_of(data), data)[1]  # noqa: E731 - a query of this test
    assert [codec_of(b"x" * 4_000), codec_of(os.urandom(4_000)), codec_of(b"x" * 10), codec_of(bytes(70_000))] == [
        "zlib",
        "raw",
        "raw",
        "raw",
    ]


@given(st.binary(max_size=64))
def test_a_column_that_is_kept_inline_is_never_taken_for_a_reference(column: bytes) -> None:
    assert blobs.is_large(column) or blobs.name_in(column) is None


def test_a_reference_leads_to_its_name() -> None:
    name = blobs.name_of(b"data")
    assert blobs.name_in(blobs.reference(name)) == name
    assert [blobs.is_large(bytes(size)) for size in (INLINE_BYTES_MAX, INLINE_BYTES_MAX + 1)] == [False, True]


def test_no_object_can_fill_the_memory() -> None:
    data = bytes(1 << 20)
    with pytest.raises(KernelPanic, match="never compressed"):
        blobs.unpack_body(blobs.name_of(data), "zlib", len(data), zlib.compress(data))


@pytest.mark.parametrize(
    ("codec", "size", "body"),
    [
        ("raw", 4, b"dato"),
        ("raw", 3, b"data"),
        ("zlib", 4, b"data"),
        ("pickle", 4, b"data"),
        ("zlib", 4, zlib.compress(bytes(10**6))),
    ],
)
def test_a_damaged_body_is_a_panic(codec: str, size: int, body: bytes) -> None:
    with pytest.raises(KernelPanic):
        blobs.unpack_body(blobs.name_of(b"data"), codec, size, body)
