"""Maps ports 443 and 8883 of localhost to those of the emulator, below the official client, which does not take a port.

Nothing else about the client is changed: name check, trust, packets and waits are its own.
"""

import os
import socket

_connect = socket.create_connection
_ports = {
    ("localhost", 443): int(os.environ["DPS_INTEROP_PORT"]),
    ("localhost", 8883): int(os.environ["DPS_INTEROP_MQTT_PORT"]),
}


def _create_connection(address, *rest, **named):
    host, port = address[0], address[1]
    return _connect((host, _ports.get((host, port), port)), *rest, **named)


socket.create_connection = _create_connection
