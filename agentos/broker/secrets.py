"""Secrets in calls: who may have which value put where, and when that happens.

    decide     every reference ``{{secret:NAME}}`` in a call with an effect outside needs a live capability for `secret.use` on NAME, with
               the call's op and the host of its URL, and no layer that denies that         `authorise`
    device     a redirect to another host is decided for the secrets too                    `authorise_host`
               the value replaces the reference in the arguments that the device is given    `resolved`
    SETTLE     what comes back is scrubbed                                                  `agentos.kernel.secret`

Everything before the device, and everything that is kept, holds references only. A reference in an argument that names the resource is
refused: what was decided would not be what is used. Ops whose arguments are prose (a file, a conversation with a model) are free to talk
about references: they are resolved there only with a capability that names the op, and stay text otherwise.

INVARIANT secrets-need-a-right: a value is put into arguments only for a call that was decided with a capability for that secret, op and
host.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from agentos.abi.codec import decode
from agentos.abi.resource import Resource, Url, canonical_url
from agentos.abi.secret import MARKER, REFERENCE
from agentos.broker.request import Request
from agentos.errors import AgentOSError, Denied, Invalid, Unavailable
from agentos.kernel.capability import is_usable
from agentos.kernel.process import Cap
from agentos.kernel.secret import ENV_PREFIX
from agentos.policy.syntax import Literal, Test

if TYPE_CHECKING:
    from agentos.kernel.core import Core
    from agentos.policy import CapSpec, Verdict
    from agentos.policy.flow import Charge

__all__ = ["authorise", "authorise_host", "references", "resolved", "secret_charges", "secret_obligations"]

_PROSE: Final = frozenset({"fs.write", "llm.complete", "llm.embed"})
_OP: Final = "secret.use"


def references(encoded: bytes) -> list[str]:
    """Return the names of the secrets that an encoded value refers to, each once."""
    if MARKER not in encoded:
        return []
    return list(dict.fromkeys(REFERENCE.findall(encoded.decode("utf-8", "replace"))))


def authorise(core: Core, call: Request) -> Verdict | None:
    """Find the right to every secret that a call with an effect outside refers to; `call.secrets` then holds name -> capability.

    Returns:
        The verdict of a layer that wants a person to see the use of one of them, None when none does.

    Raises:
        Denied: `denied.capability`, `denied.policy`.
        Invalid: this kernel has no such secret, or a reference names the resource.
    """
    call.secrets = {}
    if call.op.inside or MARKER not in call.encoded:
        return None
    names = references(call.encoded)
    held = {name: cap for name in names if (cap := _right(core, call, name, host_of(call.resources))) is not None}
    asked: Verdict | None = None
    for name in held:
        if name not in core.secrets:
            hint = f"give it to open(secrets=...), or as {ENV_PREFIX}{name} in the environment"
            raise Invalid("argument", f"there is no secret `{name}` in this kernel", hint=hint, field="secrets")
        verdict = _verdict(core, call, name, host_of(call.resources))
        if verdict is not None and verdict.outcome == "ask":
            asked = replace(verdict, remember="once", constant=False)  # a standing grant is for the op, not for a secret in it
    _refuse_in_resource(call, held)
    call.secrets = held
    return asked


def authorise_host(core: Core, call: Request, url: str) -> None:
    """Decide the secrets of a call again for the host that a redirect leads to.

    Raises:
        Denied: one of them may not go there.
        Invalid: the URL is malformed.
    """
    for name in call.secrets:
        host = canonical_url(url).host
        _right(core, call, name, host)
        verdict = _verdict(core, call, name, host)
        if verdict is not None and verdict.outcome == "ask" and not call.approved_by:
            raise Denied(
                "policy", f"sending secret `{name}` to `{host}` needs an approval", rule=verdict.rule, hint="call it directly"
            )


def resolved(core: Core, call: Request) -> dict[str, Any]:
    """Return the arguments as the device gets them: values in place of the references that were authorised. Only after ADMIT.

    Raises:
        Unavailable: the host's function for a secret did not give it.
        Invalid: the argument does not take the value.
    """
    if not call.secrets:
        return call.args
    values = {name: _value(core, name) for name in call.secrets}
    named = _resource_arguments(call)
    plain = decode(call.encoded)
    return call.op.validate({name: value if name in named else _filled(value, values) for name, value in plain.items()})


def _value(core: Core, name: str) -> str:
    try:
        return core.secrets.value(name)
    except AgentOSError:
        raise
    except Exception as error:  # noqa: BLE001 - the host's function: what it says may hold what it was to give
        kind = type(error).__name__
        raise Unavailable(
            "missing", f"the function of secret `{name}` failed ({kind})", hint="see the host's own log"
        ) from None


def secret_charges(core: Core, call: Request) -> tuple[Charge, ...]:
    """Return what the limits of the layers count for the secrets of a call."""
    stack, facts = call.process.stack, call.process.facts
    uses = (_use(core, call, name, host_of(call.resources)) for name in call.secrets)
    return tuple(charge for op, resources, args in uses for charge in stack.charges(op, resources, args, facts))


def secret_obligations(core: Core, call: Request) -> frozenset[str]:
    """Return what the layers require of a call because of its secrets."""
    stack, facts = call.process.stack, call.process.facts
    uses = (_use(core, call, name, host_of(call.resources)) for name in call.secrets)
    return frozenset(name for op, resources, args in uses for name in stack.obligations(op, resources, args, facts))


def host_of(resources: tuple[Resource, ...]) -> str:
    """Return the host of a call's URL, empty for a call without one or with several hosts: a capability that names one covers none."""
    hosts = {resource.value.host for resource in resources if isinstance(resource.value, Url)}
    return hosts.pop() if len(hosts) == 1 else ""


# --- one secret ---------------------------------------------------------------------------------------------------------------


def _use(core: Core, call: Request, name: str, host: str) -> tuple[Any, tuple[Resource, ...], dict[str, Any]]:
    """Return the use of a secret as a call of `secret.use`: op, resources, arguments."""
    op = core.ops.find(_OP)
    args = {"name": name, "op": call.op.name, "host": host}
    return op, op.render(args, "/", call.process.pid), args


def _right(core: Core, call: Request, name: str, host: str) -> Cap | None:
    """Return a capability for the use of one secret; None for prose that no capability names.

    Raises:
        Denied: `denied.capability`.
    """
    op, resources, args = _use(core, call, name, host)
    now = core.clock.now()
    paid = -1 if call.paid is not None else 0  # an interrupted attempt has paid for its use already
    if call.op.name not in _PROSE:
        return core.caps.cover(call.process, op, resources, args, now, paid=paid)
    for cap in call.process.by_op.get(_OP, ()):
        if _names(cap.spec, call.op.name) and is_usable(cap, now, paid=paid) and cap.spec.covers(op, resources, args):
            return cap
    return None


def _names(spec: CapSpec, op: str) -> bool:
    """Say whether a capability for a secret is for the op by name."""
    return any(
        isinstance(test, Test) and test.attr == "op" and test.verb in ("==", "in")
        and any(isinstance(value, Literal) and value.value == op for value in test.values)
        for test in spec.tests
    )  # fmt: skip


def _verdict(core: Core, call: Request, name: str, host: str) -> Verdict | None:
    """Return what the layers say of the use of one secret, None when there is no layer.

    Raises:
        Denied: `denied.policy`.
    """
    process = call.process
    if not process.stack.layers:
        return None
    op, resources, args = _use(core, call, name, host)
    verdict = process.stack.decide(op, resources, args, process.facts)
    if verdict.outcome == "deny":
        what = verdict.because or f"secret `{name}` may not be used in `{call.op.name}`" + (f" to `{host}`" if host else "")
        raise Denied(
            "policy", f"{what} ({verdict.rule})", hint="this was a decision, not a failure; do not retry", rule=verdict.rule, op=_OP,
            resource=name, layer=verdict.layer,
        )  # fmt: skip
    return verdict


# --- references in arguments --------------------------------------------------------------------------------------------------


def _resource_arguments(call: Request) -> set[str]:
    return {name for template in call.op.resources for name in template.fields}


def _refuse_in_resource(call: Request, held: dict[str, Cap]) -> None:
    for name in sorted(_resource_arguments(call)):
        text = str(call.args.get(name))
        if any(found in held for found in REFERENCE.findall(text)):
            hint = "put it into another argument: a header, a body, the environment"
            raise Invalid(
                "argument", f"`{name}` names what `{call.op.name}` touches, and holds a secret", hint=hint, field=name
            )


def _filled(value: Any, values: dict[str, str]) -> Any:
    """Return plain data with values in place of references; one that stands in a value is left as it is."""
    if isinstance(value, str):
        return REFERENCE.sub(lambda match: values.get(match.group(1), match.group()), value) if "{{secret:" in value else value
    if isinstance(value, bytes):
        if MARKER not in value:
            return value
        text = value.decode("utf-8", "surrogateescape")
        return _filled(text, values).encode("utf-8", "surrogateescape")
    if isinstance(value, dict):
        return {key: _filled(item, values) for key, item in value.items()}
    return [_filled(item, values) for item in value] if isinstance(value, list) else value
