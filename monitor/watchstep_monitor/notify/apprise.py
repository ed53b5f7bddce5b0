"""Everything else through apprise, an optional extra.

apprise opens its own connections: the guard on private addresses does not reach them. It
says only whether a message was taken, so nothing can be learned from a 410 or `Retry-After`.
"""

from __future__ import annotations

from watchstep_monitor.notify.config import ReceiverConfig
from watchstep_monitor.notify.outcomes import Answer, Refused, Taken
from watchstep_monitor.notify.render import plain_text
from watchstep_monitor.notify.targets import in_daemon_thread
from watchstep_monitor.service.ports import Notice


async def send(receiver: ReceiverConfig, notice: Notice) -> Answer:
    """Hand one notice to apprise, in a thread that nobody else waits for."""
    return await in_daemon_thread(lambda: _hand_over(receiver, notice))


def _hand_over(receiver: ReceiverConfig, notice: Notice) -> Answer:
    try:
        import apprise
    except ImportError:
        return Refused("needs the extra: pip install 'watchstep[apprise]'", permanent=True)
    senders = apprise.Apprise()
    if not senders.add(receiver.url):
        return Refused("apprise does not know this form of address", permanent=True)
    is_delivered = senders.notify(title=plain_text.title(notice), body=plain_text.body(notice))
    return Taken() if is_delivered else Refused("apprise could not deliver it")
