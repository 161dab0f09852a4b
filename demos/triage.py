"""Find out what broke first: a coordinator and one worker per log file, each with the rights for its own file only.

    agentos run images/triage.yaml --program demos/triage.py --workspace demos/incident

    triage          lists /logs, starts the workers, puts their findings together, writes /report.md (a person is asked first)
    triage-worker   reads its one file, publishes its one finding

Two workers run into a wall, on purpose, and the report shows both:

    the curious one   was told of another worker's file and reaches for it: no capability covers that, `denied.capability`
    that of db.env    holds a capability for the file, but a rule of policies/triage.policy forbids credentials: `denied.policy`

Both programs are durable: after a crash they run again from the top, and finished calls return what the journal holds. So
everything they do goes through `sys`, and nothing here looks at a clock, a random number or an unsorted folder.
"""

from __future__ import annotations

import re
from collections import Counter
from itertools import islice
from typing import Any

import incident_logs
import incident_report
import incident_verdict

import agentos

WORKER = "triage-worker:1"
NAMESPACE = "findings"
WORKERS_AT_ONCE = 32
ENTRIES_A_STEP = 4000
READ_BYTES_MAX = 16 * 1024 * 1024
_PLAIN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


@agentos.program("triage")
async def triage(sys: Any, *, logs: str = "/logs", report: str = "/report.md") -> dict[str, Any]:
    """Return `{component, first_failure, timeline, files, denied, report}` for the logs of one folder.

    Raises:
        Denied: the report may not be written, by rule or because a person said no; the findings stay published.
    """
    state = sys.state
    if state is None:
        state = await collect(sys, logs)
        await sys.save(state)
    published = state["published"]
    findings = await sys.gather(
        *(sys.obj.get(namespace=NAMESPACE, name=done["name"], version=done["version"]) for done in published)
    )
    findings = incident_verdict.align_years(sorted(findings, key=lambda finding: str(finding["file"])))
    judged = incident_verdict.verdict(findings)
    refusals = [refusal for done in published for refusal in done["refused"]]
    text = incident_report.render(findings, judged, refusals, state["skipped"])
    await sys.fs.write(path=report, text=text)
    return summary(findings, judged, refusals, report)


async def collect(sys: Any, folder: str) -> dict[str, Any]:
    """Have every file of a folder read by a worker of its own; return what was published and the names left alone."""
    names = await list_files(sys, folder)
    plain = [name for name in names if _PLAIN_NAME.fullmatch(name)]
    published: list[dict[str, Any]] = []
    for start in range(0, len(plain), WORKERS_AT_ONCE):
        published += await run_workers(sys, folder, plain[start : start + WORKERS_AT_ONCE])
    return {"published": published, "skipped": [name for name in names if name not in plain]}


async def list_files(sys: Any, folder: str) -> list[str]:
    """Return the names of the regular files of a folder, sorted, however many pages they fill."""
    names, cursor = [], None
    while True:
        page = await sys.fs.list(path=folder, limit=1000, cursor=cursor)
        names += [item["name"] for item in page["items"] if item["type"] == "file"]
        cursor = page["cursor"]
        if cursor is None:
            return sorted(names)


async def run_workers(sys: Any, folder: str, names: list[str]) -> list[dict[str, Any]]:
    """Start a worker per file, wait for all, and return what each of them reported.

    A worker gets two rights, both cut from the coordinator's own: to read its file, and to publish under that file's name. The
    last one is told of the first one's file: the curious worker.

    Raises:
        Unavailable: a worker failed for another reason than a refusal; its finding would be missing without a trace.
    """
    pids = await sys.gather(*(spawn(sys, folder, name, names[0] if name == names[-1] != names[0] else None) for name in names))
    exits = await sys.gather(*(sys.proc.wait(pid=pid) for pid in pids))
    for name, ended in zip(names, exits, strict=True):
        if ended.state != "exited":
            raise agentos.Unavailable(
                "device",
                f"the worker of `{name}` ended as {ended.state}: {ended.error}",
                hint="see `agentos log` for its calls",
            )
    return [ended.value for ended in exits]


def spawn(sys: Any, folder: str, name: str, curious_about: str | None) -> Any:
    """Return the call that starts the worker of one file."""
    path = f"{folder}/{name}"
    return sys.proc.spawn(
        image=WORKER,
        name=f"triage {name}",
        args={"path": path, "curious_about": None if curious_about is None else f"{folder}/{curious_about}"},
        grant=[f"fs.read {path}", f"obj.put {NAMESPACE}/{name}"],
    )


@agentos.program("triage-worker")
async def triage_worker(sys: Any, *, path: str, curious_about: str | None = None) -> dict[str, Any]:
    """Publish the finding of one log file and return `{name, version, refused}`: the object's name and version, the denials met.

    Raises:
        Denied: the finding may not be published.
    """
    name = path.rsplit("/", 1)[-1]
    data, failure = await attempt(sys, name, path)
    failures = [failure]
    if curious_about is not None:
        failures.append((await attempt(sys, name, curious_about))[1])
    refused = [failure for failure in failures if failure is not None and failure["code"].startswith("denied.")]
    finding = await read_log(sys, path, (data or b"").decode("utf-8", "replace"))
    finding |= {"unread": failure["code"] if failure is not None else "", "refused": refused}
    ref = await sys.obj.put(value=finding, name=name, namespace=NAMESPACE, type="triage.finding")
    return {"name": name, "version": ref.version, "refused": refused}


async def read_log(sys: Any, path: str, text: str) -> dict[str, Any]:
    """Return the finding of one log; a long log is read in portions of some 30 ms, with a call between them that lets others run."""
    formats: Counter[str] = Counter()
    entries = incident_logs.entries(text, formats)
    read: list[incident_logs.Entry] = []
    while portion := list(islice(entries, ENTRIES_A_STEP)):
        read += portion
        if len(portion) == ENTRIES_A_STEP:
            await sys.clock.now()
    return incident_logs.summarise(path, text, read, formats)


async def attempt(sys: Any, worker: str, path: str) -> tuple[bytes | None, dict[str, Any] | None]:
    """Read a file, or return why not as data: for a triage both are facts to report, neither is a reason to try again."""
    try:
        return await sys.fs.read(path=path, bytes_max=READ_BYTES_MAX, encoding=None), None
    except (agentos.Denied, agentos.Unavailable) as error:
        why = {
            "worker": worker,
            "path": path,
            "code": error.code,
            "rule": error.rule,
            "seq": error.seq,
            "message": error.message,
        }
        return None, why


def summary(
    findings: list[dict[str, Any]], judged: dict[str, Any], refusals: list[dict[str, Any]], report: str
) -> dict[str, Any]:
    """Return the result of the run: the verdict with its evidence, small enough to print."""
    first = judged["first_failure"]
    return {
        "component": judged["component"],
        "first_failure": first and {
            "at": incident_verdict.clock(first["at"], first["resolution_s"], date=True),
            "file": first["file"],
            "line": first["line"],
            "text": first["text"],
        },
        "timeline": [f"{row['time']} {row['component']}: {row['text']}" for row in incident_verdict.timeline(findings, judged)],
        "files": [finding["file"] for finding in findings if not finding["unread"]],
        "denied": [{key: refusal[key] for key in ("worker", "path", "code", "rule", "seq")} for refusal in refusals],
        "report": report,
    }  # fmt: skip
