"""The same thing under another name: paths, URLs and commands spelled so that a rule about the plain spelling does not see them."""

from __future__ import annotations

import unicodedata
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.hostile.world import Case, a_world, check_refused

pytestmark = pytest.mark.anyio

POLICY = """policy "names" version 1
allow fs.* any *
deny fs.* "/denied/**"
deny fs.* "/desk/caf\u00e9.txt"
allow web.get "https://**" any *
allow web.get "http://**" any *
deny web.get "https://evil.example/**", "https://*.evil.example/**", "https://evil.example:*/**"
deny web.get "http://127.0.0.1:*/**", "http://localhost:*/**", "http://10.0.0.1/**"
deny web.get "https://good.example/admin/**"
allow sh.run "git status", "git log *", "make **", "ls *"
deny sh.run "git push **", "rm **"
"""
ONLY = """policy "only" version 1
allow web.get "https://good.example/**", "https://*.good.example/api/**" any *
allow sh.run "ls *", "git log **", "python script.py", "make **"
allow fs.* "/desk/**"
"""
NARROW = ("fs.* /desk/**", "web.get https://good.example/**", "sh.run 'git log **'")


def paths(*found: Any) -> list[Case]:
    """Reads of what is denied, by other spellings."""
    made = []
    for each in found:
        path, code = each if isinstance(each, tuple) else (each, "denied.policy")
        made.append(Case(f"path {path[:40]!a}", (("eve", "fs.read", {"path": path}),), code, POLICY))
    return made


def urls(policy: str, *found: Any) -> list[Case]:
    made = []
    for each in found:
        url, code = each if isinstance(each, tuple) else (each, "denied.policy")
        made.append(Case(f"url {url[:60]!a}", (("eve", "web.get", {"url": url}),), code, policy))
    return made


def commands(policy: str, *found: Any, code: str = "denied.policy", grant: tuple[str, ...] = ("sh.*",)) -> list[Case]:
    return [Case(f"command {argv!a} {code}", (("eve", "sh.run", {"argv": argv}),), code, policy, grant) for argv in found]


PATHS = paths(
    "/denied/own.txt",
    "denied/own.txt",
    "./denied/own.txt",
    "//denied//own.txt",
    "/denied/./own.txt",
    "/desk/../denied/own.txt",
    "/denied/",
    "/denied",
    "/denied/own.txt/",
    "/x/y/../../denied/own.txt",
    "/denied/x/../own.txt",
    "desk/.././denied/own.txt",
    "/./././denied/own.txt",
    "/mnt/up/denied/own.txt",
    "/mnt/../denied/own.txt",
    ("/../denied/own.txt", "invalid.argument"),
    ("/desk/../../w/denied/own.txt", "invalid.argument"),
    ("/denied/own.txt\0", "invalid.argument"),
    ("/desk/own.txt\0/denied", "invalid.argument"),
    ("", "invalid.argument"),
    ("/" + "a/" * 3_000 + "x", "invalid.argument"),
    ("/" + "a" * 300, "invalid.argument"),
    ("\ud800", "invalid.argument"),
    ("/denied /own.txt", "unavailable.missing"),
    ("/denied./own.txt", "unavailable.missing"),
    ("/Denied/own.txt", "unavailable.missing"),
    ("/denie?/own.txt", "unavailable.missing"),
    ("/*/own.txt", "unavailable.missing"),
    ("/[d]enied/own.txt", "unavailable.missing"),
    ("/{denied}/own.txt", "unavailable.missing"),
    ("~/denied/own.txt", "unavailable.missing"),
    ("/\uff0e\uff0e/denied/own.txt", "unavailable.missing"),
    ("/denied\u2215own.txt", "unavailable.missing"),
    ("/%64enied/own.txt", "unavailable.missing"),
    ("\\denied\\own.txt", "unavailable.missing"),
    ("/desk/" + unicodedata.normalize("NFD", "caf\u00e9.txt"), "unavailable.missing"),
    ("/proc/self/root/denied/own.txt", "unavailable.missing"),
    ("/desk/own.txt/../../denied/own.txt", "denied.policy"),
    ("/.agentos-x", "denied.capability"),
    ("/desk/.AGENTOS-tmp", "denied.capability"),
)
LINKS = [
    Case(
        "link to what is denied",
        (("", "@link", {"path": "desk/l", "to": "../denied/own.txt"}), ("eve", "fs.read", {"path": "/desk/l"})),
        policy=POLICY,
    ),
    Case(
        "link to a denied folder",
        (("", "@link", {"path": "desk/l", "to": "../denied"}), ("eve", "fs.read", {"path": "/desk/l/own.txt"})),
        policy=POLICY,
    ),
    Case(
        "link to a denied folder, listed",
        (("", "@link", {"path": "desk/l", "to": "../denied"}), ("eve", "fs.list", {"path": "/desk/l"})),
        policy=POLICY,
    ),
    Case(
        "link to a link",
        (
            ("", "@link", {"path": "a", "to": "denied"}),
            ("", "@link", {"path": "desk/l", "to": "../a/own.txt"}),
            ("eve", "fs.read", {"path": "/desk/l"}),
        ),
        policy=POLICY,
    ),
    Case(
        "written through a link",
        (("", "@link", {"path": "desk/l", "to": "../denied/own.txt"}), ("eve", "fs.write", {"path": "/desk/l", "text": "x"})),
        policy=POLICY,
    ),
    Case(
        "made through a link",
        (("", "@link", {"path": "desk/l", "to": "../denied"}), ("eve", "fs.write", {"path": "/desk/l/new", "text": "x"})),
        policy=POLICY,
    ),
    Case(
        "folder through a link",
        (("", "@link", {"path": "desk/l", "to": "../denied"}), ("eve", "fs.mkdir", {"path": "/desk/l/new"})),
        policy=POLICY,
    ),
    Case(
        "moved into by a link",
        (("", "@link", {"path": "l", "to": "denied"}), ("eve", "fs.move", {"path": "/desk/own.txt", "to": "/l/x"})),
        policy=POLICY,
    ),
    Case(
        "moved out by a link",
        (("", "@link", {"path": "l", "to": "denied"}), ("eve", "fs.move", {"path": "/l/own.txt", "to": "/desk/x"})),
        policy=POLICY,
    ),
    Case(
        "deleted by a link",
        (("", "@link", {"path": "l", "to": "denied"}), ("eve", "fs.delete", {"path": "/l/own.txt"})),
        policy=POLICY,
    ),
    Case(
        "absolute link",
        (("", "@link", {"path": "desk/l", "to": "/etc/passwd"}), ("eve", "fs.read", {"path": "/desk/l"})),
        "denied.capability",
        POLICY,
    ),
    Case(
        "link out of the root",
        (("", "@link", {"path": "desk/l", "to": "../../../../etc/passwd"}), ("eve", "fs.read", {"path": "/desk/l"})),
        "denied.capability",
        POLICY,
    ),
    Case(
        "loop of links",
        (("", "@link", {"path": "desk/l", "to": "l"}), ("eve", "fs.read", {"path": "/desk/l"})),
        "invalid.argument",
        POLICY,
    ),
    Case(
        "hard link",
        (("", "@hardlink", {"path": "desk/h", "to": "denied/own.txt"}), ("eve", "fs.read", {"path": "/desk/h"})),
        "denied.capability",
        POLICY,
    ),
    Case(
        "written through a hard link",
        (("", "@hardlink", {"path": "desk/h", "to": "denied/own.txt"}), ("eve", "fs.write", {"path": "/desk/h", "text": "x"})),
        "denied.capability",
        POLICY,
    ),
    Case(
        "folder above what is denied, moved",
        (("", "@link", {"path": "x", "to": "denied"}), ("eve", "fs.move", {"path": "/denied", "to": "/d"})),
        policy=POLICY,
    ),
    Case("move onto what is denied", (("eve", "fs.move", {"path": "/desk", "to": "/denied/desk"}),), policy=POLICY),
    Case(
        "folder above what is denied, deleted", (("eve", "fs.delete", {"path": "/denied", "recursive": True}),), policy=POLICY
    ),
    Case(
        "chdir and a relative path",
        (("eve", "proc.chdir", {"path": "/denied"}), ("eve", "fs.read", {"path": "own.txt"})),
        policy=POLICY + "allow proc.chdir\n",
    ),
    Case(
        "chdir by a link",
        (
            ("", "@link", {"path": "l", "to": "denied"}),
            ("eve", "proc.chdir", {"path": "/l"}),
            ("eve", "fs.read", {"path": "own.txt"}),
        ),
        policy=POLICY + "allow proc.chdir\n",
    ),
    Case(
        "link out of what is held",
        (("", "@link", {"path": "desk/l", "to": "../inbox/own.txt"}), ("eve", "fs.read", {"path": "/desk/l"})),
        "denied.capability",
        POLICY,
        NARROW,
    ),
    Case(
        "outside of what is held",
        (("eve", "fs.read", {"path": "/desk/../inbox/own.txt"}),),
        "denied.capability",
        POLICY,
        NARROW,
    ),
    Case(
        "sibling of what is held", (("eve", "fs.write", {"path": "/desk2", "text": "x"}),), "denied.capability", POLICY, NARROW
    ),
    Case("mount that is not held", (("eve", "fs.read", {"path": "/mnt/again/own.txt"}),), "denied.capability", POLICY, NARROW),
    Case(
        "chdir to what is not held",
        (("eve", "proc.chdir", {"path": "/inbox"}),),
        "denied.capability",
        POLICY + "allow proc.chdir\n",
        NARROW,
    ),
]
DENIED_URLS = urls(
    POLICY,
    "https://evil.example/",
    "HTTPS://EVIL.EXAMPLE/x",
    "https://evil.example./x",
    "https://evil.example:443/x",
    "https://evil.example:8443/x",
    "https://a.evil.example/",
    "https://\uff45vil.example/x",
    "https://evil\u3002example/x",
    "https://ev\u00adil.example/x",
    "https://evil.example?x",
    "https://evil.example#.good.example/x",
    "https://good.example/admin/x",
    "https://good.example/a/../admin/x",
    "https://good.example/%61dmin/x",
    "https://good.example/a/%2e%2e/admin/x",
    "https://good.example//admin/x",
    "https://good.example/./admin/x",
    "https://good.example/admin",
    "https://good.example/admin/?x=/y",
    "http://127.0.0.1/",
    "http://127.0.0.1:8080/",
    "http://LOCALHOST/x",
    "http://localhost./x",
    ("http://2130706433/", "invalid.argument"),
    ("http://0x7f000001/", "invalid.argument"),
    ("http://0x7f.0.0.1/", "invalid.argument"),
    ("http://0177.0.0.1/", "invalid.argument"),
    ("http://127.1/", "invalid.argument"),
    ("http://127.0.1/", "invalid.argument"),
    ("http://127.000.000.001/", "invalid.argument"),
    "http://127.0.0.1./",
    "http://[::ffff:127.0.0.1]/",
    "http://[::ffff:7f00:1]/",
    ("http://167772161/", "invalid.argument"),
    "http://\uff11\uff12\uff17.0.0.1/",
    "http://\u2460\u2461\u2466.0.0.1/",
    ("https://evil.example\\@good.example/", "invalid.argument"),
    ("https://good.example@evil.example/", "invalid.argument"),
    ("https://good.example:x@evil.example/", "invalid.argument"),
    ("https://evil.example\t/", "invalid.argument"),
    ("https://evil.exam\nple/", "invalid.argument"),
    ("https://evil%2eexample/", "invalid.argument"),
    ("https://%65vil.example/", "invalid.argument"),
    ("https://good.example%40evil.example/", "invalid.argument"),
    ("//evil.example/", "invalid.argument"),
    ("https:/evil.example/", "invalid.argument"),
    ("https:evil.example", "invalid.argument"),
    ("https:///evil.example/", "invalid.argument"),
    ("evil.example", "invalid.argument"),
    ("https://evil.example:99999/", "invalid.argument"),
    ("https://evil.example:0/", "invalid.argument"),
    ("https://good.example/../../etc", "invalid.argument"),
    ("https://good\u2100.example/", "invalid.argument"),
    ("https://evil.example\uff0fx.good.example/", "invalid.argument"),
    ("javascript:alert(1)", "invalid.argument"),
    ("data:text/plain,x", "invalid.argument"),
    ("file:///etc/passwd", "invalid.argument"),
    ("https://", "invalid.argument"),
    ("https://./", "invalid.argument"),
    ("https://[::1", "invalid.argument"),
    ("https://" + "a" * 300 + ".example/", "invalid.argument"),
    ("https://a..b/", "invalid.argument"),
    ("ftp://evil.example/", "denied.policy"),
    ("gopher://evil.example:70/", "denied.policy"),
)
OTHER_URLS = urls(
    ONLY,
    "https://good.example.evil.example/",
    "https://evil.example/good.example",
    "https://goodXexample/",
    "https://notgood.example/",
    "http://good.example/",
    "https://good.example:444/",
    "https://evil.example#.good.example/api/x",
    "https://evil.example?.good.example/api/x",
    "https://evil.example/.good.example/api/x",
    "https://x.good.example.evil.example/api/x",
    "https://a.b.good.example/api/x",
    "https://g\u043eod.example/",
    "https://good.examp\u217ce.evil/",
    "https://api.good.example/other",
    "https://api.good.example/api/../other",
    "https://api.good.example/api%2f..%2fother/x",
    "wss://good.example/",
)
HELD_URL = [
    Case(
        "url that is not held",
        (("eve", "web.get", {"url": "https://good.example.evil.example/"}),),
        "denied.capability",
        POLICY,
        NARROW,
    ),
    Case(
        "redirect to what is denied",
        (("eve", "web.get", {"url": "https://x.example/", "leads_to": "https://evil.example/"}),),
        policy=POLICY,
    ),
    Case(
        "redirect that a test denies",
        (("eve", "web.get", {"url": "https://x.example/", "leads_to": "https://evil.example/x"}),),
        policy=POLICY + 'deny web.get when redirect like "https://evil.example/*"\n',
    ),
    Case(
        "redirect to what is not held",
        (("eve", "web.get", {"url": "https://good.example/", "leads_to": "https://evil.example/"}),),
        "denied.capability",
        POLICY,
        NARROW,
    ),
    Case(
        "redirect to what is not allowed",
        (("eve", "web.get", {"url": "https://good.example/", "leads_to": "https://evil.example/"}),),
        policy=ONLY,
    ),
    Case(
        "redirect to another spelling",
        (("eve", "web.get", {"url": "https://good.example/", "leads_to": "HTTPS://EVIL.example."}),),
        policy=POLICY,
    ),
    Case(
        "redirect to what is no URL",
        (("eve", "web.get", {"url": "https://good.example/", "leads_to": "https://good.example@evil.example/"}),),
        "invalid.argument",
        POLICY,
    ),
]
COMMANDS = [
    *commands(
        ONLY,
        ["bash", "-c", "ls x"],
        ["/bin/ls", "x"],
        ["./ls", "x"],
        ["ls", "/etc/passwd", "x"],
        ["ls"],
        ["ls x"],
        ["env", "ls", "x"],
        ["xargs", "ls"],
        ["sudo", "ls", "x"],
        ["python", "-c", "x"],
        ["python", "script.py", "-c", "x"],
        ["python3", "script.py"],
        ["python", "./script.py"],
        ["busybox", "ls", "x"],
        ["sh", "script.py"],
        ["LS", "x"],
        ["ls ", "x"],
        ["ls\u200b", "x"],
        ["command", "ls", "x"],
        ["nice", "ls", "x"],
        ["timeout", "1", "ls", "x"],
        ["git", "push"],
        ["git", "-c", "alias.log=!rm", "log"],
        ["git log", "x"],
        ["agentos", "approve", "1"],
        ["/usr/bin/git", "log"],
    ),
    *commands(POLICY, ["git", "push", "--force"], ["rm", "-rf", "/"], ["git", "status", "x"], ["git", "log", "a", "b"]),
    *commands(ONLY, [], [""], ["ls", ""], ["ls", "a\0b"], ["ls\0"], code="invalid.argument"),
    *commands(
        POLICY, ["make", "x"], ["git", "push"], ["git"], ["bash", "-c", "git log x"], code="denied.capability", grant=NARROW
    ),
    *commands(
        'policy "any" version 1\nallow sh.run "**"\n',
        ["bash", "-c", "rm -rf /"],
        ["/bin/sh", "x"],
        ["env", "rm"],
        ["python3.11", "-c", "x"],
        ["python", "-"],
        ["perl", "-e", "x"],
        ["node", "--eval=x"],
        ["busybox", "sh"],
        ["ssh", "x", "rm"],
        ["python", "-Ic", "x"],
        ["awk", "BEGIN{system(1)}"],
        ["xargs", "rm"],
    ),
]
CASES = PATHS + LINKS + DENIED_URLS + OTHER_URLS + HELD_URL + COMMANDS


@pytest.mark.parametrize("case", CASES, ids=str)
async def test_no_spelling_gets_around_a_rule(case: Case, tmp_path: Path) -> None:
    await check_refused(case, tmp_path)


ALLOWED = [
    ("fs.read", {"path": "/desk/./own.txt"}),
    ("web.get", {"url": "https://good.example/a"}),
    ("sh.run", {"argv": ["git", "log", "-p"]}),
    ("sh.run", {"argv": ["make", "all"]}),
]


async def test_what_is_allowed_works_under_its_plain_name(tmp_path: Path) -> None:
    async with a_world(Case("control", (), policy=POLICY), tmp_path) as world:
        for op, args in ALLOWED:
            await world.step("eve", op, args)
        assert [each[0] for each in world.done] == ["get", "run", "run"]
