"""Leads port 8883 of localhost to the port of the emulator, below the official client, which cannot be told a port.

Nothing else about the client is changed: name check, trust, packets and waits are its own.
"""

import os
import socket

_connect = socket.create_connection
_port = int(os.environ["DPS_INTEROP_MQTT_PORT"])


def _create_connection(address, *rest, **named):
    host, port = address[0], address[1]
    return _connect((host, _port) if (host, port) == ("localhost", 8883) else address, *rest, **named)


socket.create_connection = _create_connection
