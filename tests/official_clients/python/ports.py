"""Maps ports 443 and 8883 of localhost and of the hub to those of the emulator, below the official clients,
which do not take a port, and the name of the hub, which no server resolves, to localhost.

Nothing else about the clients is changed: name check, trust, packets and waits are their own.
"""

import os
import socket

_resolve = socket.getaddrinfo
_names = ("localhost", os.environ["DPS_INTEROP_HUB"])
_ports = {443: int(os.environ["DPS_INTEROP_PORT"]), 8883: int(os.environ["DPS_INTEROP_MQTT_PORT"])}


def _getaddrinfo(host, port, *rest, **named):
    if host in _names:
        return _resolve("localhost", _ports.get(port, port), *rest, **named)
    return _resolve(host, port, *rest, **named)


socket.getaddrinfo = _getaddrinfo
