"""Obligations: what cannot be met denies, and redaction leaves no credential behind."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentos.broker.obligation import redacted

KEY = "-----BEGIN RSA PRIVATE KEY-----\nMIIE" + "A" * 40 + "\n-----END RSA PRIVATE KEY-----"
JWT = ".".join(
    base64.urlsafe_b64encode(part).decode().rstrip("=") for part in (b'{"alg":"HS256"}', b'{"sub":"1234567890"}', b"x" * 24)
)


def plain(text: str) -> str:
    return text


@pytest.mark.parametrize(
    "credential",
    [
        "AKIAIOSFODNN7EXAMPLE", "ghp_" + "a" * 36, "github_pat_" + "A1" * 20, "sk-proj-" + "x" * 30, "xoxb-123456789012-abc", JWT, KEY,
        "Bearer abcdefghijklmnop1234", "Authorization: basic dXNlcjpwYXNzd29yZDEyMw==",
    ],
)  # fmt: skip
def test_a_credential_is_redacted_wherever_it_stands(credential: str) -> None:
    args = {"body": f"see {credential} here", "rows": [{"deep": credential}], "data": f"x{chr(10)}{credential}".encode()}
    shown = str(redacted(args, plain))
    assert credential.rsplit(maxsplit=1)[-1] not in shown
    assert shown.count("[redacted]") >= 3


@given(st.text(alphabet="abc d.,\n", max_size=200))
def test_ordinary_text_is_left_alone(text: str) -> None:
    assert redacted({"t": text, "n": 3, "none": None}, plain) == {"t": text, "n": 3, "none": None}


def test_a_private_key_that_is_cut_off_is_redacted_to_the_end() -> None:
    assert redacted(KEY[:60] + " tail", plain) == "[redacted]"


def test_the_kernels_own_secrets_are_scrubbed_first() -> None:
    assert redacted({"a": ["token hunter2!"]}, lambda text: text.replace("hunter2!", "[secret T]")) == {
        "a": ["token [secret T]"]
    }


def test_redacting_twice_changes_nothing_more() -> None:
    once = redacted({"a": f"Bearer {'x' * 20} {KEY}"}, plain)
    assert redacted(once, plain) == once
