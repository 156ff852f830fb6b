"""An Azure IoT Hub Device Provisioning Service on your machine, for tests.

    with azure_dps_emulator.start(retry_after=0) as dps:
        print(dps.id_scope, dps.endpoints["mqtt"], dps.ca_file)
"""

from ._emulator import Emulator, StartError, StopError, start
from ._options import Options, Seed

__all__ = ["Emulator", "Options", "Seed", "StartError", "StopError", "start"]
