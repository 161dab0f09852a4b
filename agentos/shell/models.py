"""`--model`: what a command puts in the place of the model that an image names, and the check that there is one at all."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from agentos.abi.image import AgentImage

__all__ = ["Model", "chosen", "expect"]

Model = Annotated[
    str | None,
    typer.Option(
        "--model",
        help="The model of the image: a profile's name, or scripted:, replay: or record: and a file.",
        metavar="MODEL",
    ),
]


def chosen(text: str | None, image: AgentImage | None) -> dict[str, Any]:
    """Return the profiles that a kernel of our own is opened with: what the text means, in the place of the image's profile.

    Args:
        text: What `--model` was given, or None.
        image: The image; None means the profile `default`.

    Raises:
        Invalid: `invalid.argument`, there is no such profile or file.
    """
    if text is None:
        return {}
    from agentos.abi.op import PROFILE_DEFAULT  # noqa: PLC0415 - only agents need a model
    from agentos.devices.llm.profile import driver_from, with_profiles  # noqa: PLC0415

    return {image.profile if image is not None else PROFILE_DEFAULT: driver_from(text, with_profiles({}, os.environ))}


def expect(image: AgentImage, models: dict[str, Any]) -> None:
    """Refuse to start an agent whose model nobody has configured.

    Raises:
        Invalid: `invalid.argument`; its hint says how to configure one.
    """
    if image.body.kind != "react":
        return
    from agentos.devices.llm.profile import expect_model, with_profiles  # noqa: PLC0415 - only agents need a model

    expect_model(with_profiles(models, os.environ), image.profile)
