"""Where a store is: the path of a file, or the address of a PostgreSQL database.

INVARIANT secrets-stay-in-addresses: whatever is shown, compared or hashed of a `Dsn` has no password in it.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import unquote

from agentos.errors import Invalid

__all__ = ["Dsn", "Place", "place_of"]

_ADDRESS: Final = re.compile(
    r"(?P<scheme>postgres(?:ql)?)://(?:(?P<user>[^:@/?#]*)(?::(?P<password>[^@/?#]*))?@)?"
    r"(?P<hosts>[^@/?#]*)(?P<name>/[^@?#]*)?(?:\?(?P<query>[^@#?]*))?"
)
_MEANT: Final = re.compile(r"postgres(ql)?:|(.*\s)?password\s*=", re.IGNORECASE | re.DOTALL)
"""What is no path either: an address with something missing, or the words of libpq. A file of that name would show the password."""
_SECRET: Final = frozenset({"password", "sslpassword", "scram_client_key", "scram_server_key", "oauth_client_secret"})
_HINT: Final = "postgresql://USER@HOST:PORT/NAME; write @ : / ? # inside of a part as %40 %3A %2F %3F %23"


@dataclass(frozen=True, slots=True, repr=False)
class Dsn:
    """The address of a PostgreSQL database. Equal addresses without their passwords are one place.

    Attributes:
        shown: The address without passwords.
        secret: The whole address, for the driver alone.
    """

    shown: str
    secret: str

    def __str__(self) -> str:
        """Return the address without passwords."""
        return self.shown

    def __repr__(self) -> str:
        """Return the address without passwords."""
        return f"Dsn({self.shown!r})"

    @property
    def key(self) -> str:
        """A short name for this place, for files that belong to it."""
        return hashlib.sha256(self.shown.encode()).hexdigest()[:12]


Place = Path | Dsn


def place_of(where: str | Path | Dsn) -> Place:
    """Return the place that `where` names: ``postgresql://...`` is a database, anything else a path, made absolute.

    Raises:
        Invalid: `invalid.store`, reason backend: another kind of address; `invalid.argument`, one that cannot be read. It is not
            repeated, because it may hold a password.
    """
    if isinstance(where, Dsn):
        return where
    if isinstance(where, Path) or "://" not in where:
        if isinstance(where, str) and _MEANT.match(where):
            raise Invalid("argument", "the address of the database cannot be read", hint=_HINT, field="store")
        return Path(where).expanduser().absolute()
    scheme = where.partition("://")[0]
    if scheme not in ("postgres", "postgresql"):
        raise Invalid("store", f"there is no backend for `{scheme}://`", hint="a path, or postgresql://...", reason="backend")
    found = _ADDRESS.fullmatch(where)
    if found is None:
        raise Invalid("argument", "the address of the database cannot be read", hint=_HINT, field="store")
    user = f"{found['user']}@" if found["user"] else ""
    kept = [part for part in (found["query"] or "").split("&") if unquote(part.partition("=")[0]) not in _SECRET and part]
    query = f"?{'&'.join(kept)}" if kept else ""
    return Dsn(f"postgresql://{user}{found['hosts']}{found['name'] or ''}{query}", where)
