"""Tell systemd that the loop is alive (sd_notify(3)): a datagram to the socket it names."""

import os
import socket


def notify(state: str) -> bool:
    """Send a state such as ``READY=1`` or ``WATCHDOG=1``; False if nobody listens.

    Called by the loop itself, so that a loop that hangs is not reported alive.
    """
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return False
    # A name that begins with @ is in Linux's abstract namespace.
    target = "\0" + address[1:] if address.startswith("@") else address
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
            channel.sendto(state.encode(), target)
    except OSError:
        return False
    return True
