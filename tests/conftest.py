"""What every test shares: the async backend and how Hypothesis searches. Builders live beside the tests that use them."""

from __future__ import annotations

import os

import pytest
from hypothesis import HealthCheck, settings

from tests.postgres import postgres, postgres_server

__all__ = ["anyio_backend", "postgres", "postgres_server"]

settings.register_profile("agentos", deadline=None, print_blob=True, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("long", settings.get_profile("agentos"), max_examples=2_000)
settings.load_profile(os.environ.get("AGENTOS_TEST_PROFILE", "agentos"))

for name in [name for name in os.environ if name.startswith("OPENAI_")]:
    del os.environ[name]  # whoever runs the tests may have a model of their own: none of it is the tests'
os.environ["AGENTOS_CONFIG"] = os.devnull


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """Run async tests on asyncio, once for all."""
    return "asyncio"
