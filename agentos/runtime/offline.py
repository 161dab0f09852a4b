"""What a store says while no kernel runs: the looking half of the embedded API, and the one change that needs none, an answer.

Everything is read from the store's tables as the last kernel left them; nothing runs, nothing is decided. `answer` takes the writer's
lease for the moment of one append, so a kernel and it can never both write.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NoReturn

import anyio.to_thread

from agentos.abi.codec import decode, encode
from agentos.abi.limits import PAGE_ROWS
from agentos.abi.op import OP_NAME
from agentos.abi.records import AccountRecord, AskRecord, CapRecord, Change, ProcessRecord, Row
from agentos.abi.values import CapInfo, Event, Exit, ProcessInfo
from agentos.errors import Invalid
from agentos.kernel.ask import Answer, Ask, AskTable, as_ask
from agentos.kernel.event import event_of
from agentos.kernel.info import exit_from, from_record
from agentos.runtime.audit import entries
from agentos.runtime.clock import SystemClock
from agentos.runtime.outcome import Decision, Entry, Outcome
from agentos.store import AuditReport, Store, open_store

if TYPE_CHECKING:
    from agentos.abi.image import AgentImage
    from agentos.devices import Device

__all__ = ["StoreView", "StoredProcess"]

_HINT: Final = "no kernel runs; open the store"
