"""`agentos.models`: what a host says about a model, and what a server then gets."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import agentos
from agentos.models import Price, openai, scripted
from tests.model_server import Answer, serving


@pytest.mark.parametrize("key", ["k3y", lambda: "k3y"])
def test_a_model_is_asked_at_its_server_with_its_key(key: Any) -> None:
    with serving([Answer("hello")]) as server:
        model = openai("small", key=key, base_url=server.url, options={"seed": 7})
        assert agentos.run("go", model=model) == "hello"
    asked = server.requests[0]
    assert (asked.key, asked.json["model"], asked.json["seed"]) == ("k3y", "small", 7)
    assert "k3y" not in repr(model)


def test_without_a_key_a_server_of_ones_own_is_asked_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with serving([Answer("hello")]) as server:
        assert agentos.run("go", model=openai("small", base_url=server.url)) == "hello"


def test_the_key_of_the_environment_is_looked_up_with_the_first_call(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with serving([Answer("hello")]) as server:
        model = openai("small", base_url=server.url)
        monkeypatch.setenv("OPENAI_API_KEY", "late")
        agentos.run("go", model=model)
    assert server.requests[0].key == "late"


def test_a_price_is_numbers_or_a_price_and_a_budget_sees_it() -> None:
    with serving([Answer("hello")]) as server:
        model = openai("small", base_url=server.url, price=(1_000_000.0, 0.0))
        with pytest.raises(agentos.Denied) as caught:
            agentos.run("go", model=model, budget={"usd": 1.0})
    assert caught.value.code == "denied.budget"
    assert openai("small", price=(1, 2, 0.5)).price == Price(1, 2, 0.5)
    assert openai("small", price=Price(3)).price == Price(3)


@pytest.mark.parametrize(
    "options", [{"price": (1,)}, {"clearance": "top"}, {"window_tokens": 10}, {"slots": 0}, {"timeout_s": 0}]
)
def test_a_model_that_cannot_be_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(agentos.Invalid):
        openai("small", **options)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[models.small]\nmodel = 'm'\nprise = 1", "models.small]: .*prise"),
        ("[models.small]\nmodel = 'm'\nslots = 0", "models.small]: slots"),
        ("models = 3", "no table"),
        (None, "not there"),
    ],
)
def test_a_mistake_in_the_configuration_is_named_with_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str | None, said: str
) -> None:
    path = tmp_path / "config.toml"
    if text is not None:
        path.write_text(text)
    monkeypatch.setenv("AGENTOS_CONFIG", str(path))
    with pytest.raises(agentos.Invalid, match=rf"config\.toml.*{said}"):
        agentos.run("go", model="small")


def test_a_recording_answers_in_place_of_the_model_that_was_recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with serving([Answer("hello")]) as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.url)
        assert agentos.run("go", model=f"record:{tmp_path}/said.jsonl") == "hello"
    assert agentos.run("go", model=f"replay:{tmp_path}/said.jsonl") == "hello"
    assert len(server.requests) == 1


def test_a_model_may_be_a_file_of_turns_or_the_name_of_a_profile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "turns.yaml").write_text("- hello\n")
    assert agentos.run("go", model=scripted(tmp_path / "turns.yaml")) == "hello"
    with serving([Answer("from a profile")]) as server:
        (tmp_path / "config.toml").write_text(f'[models.small]\nmodel = "m"\nbase_url = "{server.url}"\n')
        monkeypatch.setenv("AGENTOS_CONFIG", str(tmp_path / "config.toml"))
        assert agentos.run("go", model="small") == "from a profile"


def test_a_file_of_turns_that_is_not_there_is_an_error_that_names_it(tmp_path: Path) -> None:
    with pytest.raises(agentos.Invalid, match=r"no\.yaml"):
        agentos.run("go", model=f"scripted:{tmp_path}/no.yaml")
