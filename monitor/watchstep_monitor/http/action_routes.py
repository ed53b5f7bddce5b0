"""What the links of messages lead to: a page that asks, and the button that acts.

No login: the signature in the address is the permission, so no cookie of another site's visitor
can be misused. See `service.alerting.links`.
"""

from __future__ import annotations

import base64
import hashlib
from html import escape
from typing import Annotated, NamedTuple

from fastapi import APIRouter, Depends, Path
from starlette.responses import HTMLResponse

from watchstep_monitor.http.alert_routes import Id
from watchstep_monitor.http.calls import CheckedRoute, Service, Shared, call
from watchstep_monitor.http.run_routes import RunName
from watchstep_monitor.service.alerting.links import Act
from watchstep_monitor.service.errors import NotFoundError

PLACE = "/act/{run}/{incident}/{act}/{until}/{signature}"
_QUESTIONS: dict[Act, str] = {
    "acknowledge": "Look after this incident of {run}? There will be no more reminders of it.",
    "silence": "Silence all alerts of {run} for an hour?",
    "right": "Was this alert of {run} right? Answers show which rules can be trusted.",
    "false-alarm": "Was this a false alarm of {run}? Answers show which rules can be trusted.",
}
_DONE: dict[Act, str] = {
    "acknowledge": "Acknowledged: no more reminders of this incident of {run}.",
    "silence": "All alerts of {run} are silent for an hour.",
    "right": "Noted: the alert of {run} was right.",
    "false-alarm": "Noted: a false alarm of {run}.",
}
_STYLE = (
    "body{font:18px sans-serif;margin:15vh auto;max-width:32em;padding:0 1em;color-scheme:"
    "light dark}button{font:inherit;padding:.5em 1.5em}"
)
_HASH = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
_HEADERS = {
    "Content-Security-Policy": f"default-src 'none'; style-src 'sha256-{_HASH}'; "
    "form-action 'self'; frame-ancestors 'none'; base-uri 'none'",
    # With "no-referrer" browsers hide the form's origin, and the envelope would refuse it.
    "Referrer-Policy": "same-origin",
}

Until = Annotated[int, Path(ge=0, le=2**40, description="Epoch seconds after which it is void.")]
Signature = Annotated[str, Path(pattern=r"^[0-9a-f]{32}$")]

routes = APIRouter(tags=["links"], route_class=CheckedRoute)


class Link(NamedTuple):
    """What a good link stands for."""

    run: str
    incident: str
    act: Act


async def _checked(
    context: Shared, run: RunName, incident: Id, act: Act, until: Until, signature: Signature
) -> Link:
    signer = context.run_service.policy.telling.signer
    if signer is None or not signer.is_good(run, incident, act, until, signature):
        raise NotFoundError("no such link")
    if until < context.run_service.clock.now().timestamp():
        raise NotFoundError("this link is more than a week old: open the run's page instead")
    return Link(run, incident, act)


Good = Annotated[Link, Depends(_checked)]


@routes.get(PLACE, **call("Ask before a message's link acts.", None, response_class=HTMLResponse))
def ask(link: Good) -> HTMLResponse:
    """Changes nothing: previews open links too."""
    return _page(_QUESTIONS[link.act].format(run=link.run), button="Yes")


@routes.post(PLACE, **call("Do what a message's link says.", None, response_class=HTMLResponse))
def do(service: Service, link: Good) -> HTMLResponse:
    service.act(link.run, link.incident, link.act)
    return _page(_DONE[link.act].format(run=link.run))


def _page(text: str, button: str = "") -> HTMLResponse:
    form = f'<form method="post"><button>{button}</button></form>' if button else ""
    return HTMLResponse(
        '<!doctype html><html lang="en"><meta charset="utf-8"><title>watchstep</title>'
        '<meta name="viewport" content="width=device-width"><meta name="robots" content="noindex">'
        f"<style>{_STYLE}</style><main><p>{escape(text)}</p>{form}</main></html>",
        headers=_HEADERS,
    )
