"""store: the only room that speaks SQL. One file, or one schema of a database on a server, holds everything that must survive.

Owns: the journal with its hash chain and group commit, versioned state tables, content-addressed objects, migrations, the lease of
the one writer.
Must never: know what an op, a policy or a program means, decide anything, rewrite a journal row.

INVARIANT rows-are-exact: a batch is a constant number of SQL statements and one shared commit, whatever its rows (Batch).
INVARIANT journal-is-append-only: each row's hash covers the row and its predecessor's hash; `verify` sees every tampering (chain).
INVARIANT committed-survives: what `durable` acknowledged is in the file at any instant after; what it holds is a prefix (Journal).
INVARIANT cost-is-local: opening and reading cost what is live or asked for, never what ever happened (reads).

Source: group commit after DeWitt et al. 1984; chained log after Schneier and Kelsey 1999; nodes cut by content after
Muthitacharoen et al. 2001 (LBFS).
"""

from __future__ import annotations

from agentos.store.chain import AuditReport
from agentos.store.store import Store, freed, held_on, inbox_of, is_made, open_store, post

__all__ = ["AuditReport", "Store", "freed", "held_on", "inbox_of", "is_made", "open_store", "post"]
