"""What every part of the embedded API stands on: the kernel's state, its door and its programs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agentos.kernel.core import Core
from agentos.runtime.asklink import Keys

if TYPE_CHECKING:
    from agentos.broker.broker import Broker
    from agentos.devices.llm.device import LanguageModels
    from agentos.programs.registry import Programs

__all__ = ["KernelBase"]


class KernelBase:
    """The parts of a running kernel; a base of `Kernel` and of the classes that it is made from."""

    def __init__(self, core: Core, broker: Broker, programs: Programs) -> None:
        self.core = core
        self.broker = broker
        self.programs = programs
        self.keys = Keys(core.store.path)
        self.languages: LanguageModels
