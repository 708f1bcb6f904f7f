"""Shares of an online endpoint's traffic: set, mirrored, taken back."""

from __future__ import annotations

from typing import Any

from aml_magics import client
from aml_magics.assets import Asset, percentages, plain
from aml_magics.errors import BadCommand, BadInput, NotFound
from aml_magics.session import Session

Shares = dict[str, int]  # deployment → percent
BEFORE = "previous_traffic"  # tag of the endpoint: what `rollback` returns to, from any notebook
LIST = "%aml online-endpoint list"


def traffic(
    session: Session,
    *,
    endpoint: str,
    shares: list[str] | None = None,
    mirror: str = "",
) -> Asset:
    """Share an endpoint's traffic among its deployments; those that are not named get none.

    Args: shares: ``DEPLOYMENT=PERCENT`` words; without any, the endpoint is shown. mirror: the
        deployment that gets copies of so much of the traffic, whose answers nobody sees; 0 ends it.
    Raises: BadCommand: the shares are not 100 in all. NotFound: no such endpoint or deployment.
        BadInput: a deployment gets copies. Refused: it has failed.
    """
    wanted = percentages(shares or [], "traffic")
    copied = percentages([mirror] if mirror else [], "--mirror")
    if wanted and sum(wanted.values()) not in {0, 100}:
        told = " + ".join(map(str, wanted.values()))
        raise BadCommand(f"traffic is 100 % in all, not {told} = {sum(wanted.values())}", _line())
    with client.calling(session, hint=LIST) as ml:
        current = ml.online_endpoints.get(endpoint)
        now = dict(current.traffic or {})
        if not wanted and not copied:
            return Asset("online-endpoint", plain(current))
        _check_known(ml, endpoint, {**wanted, **copied})
        if copied:
            current.mirror_traffic = {name: share for name, share in copied.items() if share}
        _check_apart(wanted or now, current.mirror_traffic or {})
        return Asset("online-endpoint", plain(send(ml, current, wanted or now)))


def rollback(session: Session, *, endpoint: str) -> Asset:
    """Return to the shares that the traffic of an endpoint had before; twice undoes it.

    Raises: BadInput: they were never changed. NotFound: no such endpoint, or a deployment that had
        traffic is gone.
    """
    with client.calling(session, hint=LIST) as ml:
        current = ml.online_endpoints.get(endpoint)
        before = (current.tags or {}).get(BEFORE)
        if not before:
            raise BadInput(f"the traffic of {endpoint} was not changed before", _line())
        shares = percentages(before.split(), BEFORE)
        _check_known(ml, endpoint, shares)
        return Asset("online-endpoint", plain(send(ml, current, shares)))


def send(ml: Any, endpoint: Any, shares: Shares) -> Any:
    """Give an endpoint these shares, and note those it had; returns it as it is then."""
    had = said(endpoint.traffic or {})
    if had and had != said(shares):
        endpoint.tags = {**(endpoint.tags or {}), BEFORE: had}
    endpoint.traffic = shares
    client.begun(ml.online_endpoints.begin_create_or_update, endpoint).result()
    return ml.online_endpoints.get(endpoint.name)


def with_share(shares: Shares, deployment: str, percent: int) -> Shares:
    """Shares with so much for one deployment, the rest divided among the others as it was.

    Raises: BadCommand: there is no other to have the rest.
    """
    others = {name: share for name, share in shares.items() if share and name != deployment}
    left, total = 100 - percent, sum(others.values())
    if percent and left and not others:  # of 0 there is none yet: it is given traffic later
        raise BadCommand(f"nothing else would take the other {left} %", hint="--traffic 100")
    divided = {name: left * share // total for name, share in others.items()}
    if others:  # what division leaves over goes to the largest
        divided[max(others, key=lambda name: others[name])] += left - sum(divided.values())
    return {**divided, deployment: percent}


def _check_known(ml: Any, endpoint: str, shares: Shares) -> None:
    known = {one.name for one in ml.online_deployments.list(endpoint)}
    unknown = [name for name, share in shares.items() if share and name not in known]
    if unknown:
        raise NotFound(
            f"endpoint {endpoint} has no deployment '{unknown[0]}'",
            hint=f"it has {', '.join(sorted(known)) or 'none'}",
        )


def _check_apart(shares: Shares, copied: Shares) -> None:
    both = [name for name, share in copied.items() if share and shares.get(name)]
    if both:
        told = f"'{both[0]}' gets copies of the traffic: it cannot have a share as well"
        raise BadInput(told, f"end that in the same line: --mirror {both[0]}=0")


def said(shares: Shares) -> str:
    """As words of the command line, in the order of names; 0 is left out."""
    return " ".join(f"{name}={share}" for name, share in sorted(shares.items()) if share)


def _line() -> str:
    return "%aml traffic ENDPOINT blue=90 green=10"
