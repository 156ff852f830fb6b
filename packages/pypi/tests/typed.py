"""Checked by pyright, not run: what the types allow, and what they refuse."""

from pathlib import Path

import azure_dps_emulator

OPTIONS: azure_dps_emulator.Options = {"hub": ["a.example"], "seed": Path("seed.json"), "on_log": print}

azure_dps_emulator.start(**OPTIONS)
with azure_dps_emulator.start(https_port=0, loose=True, allocation="static", stop_timeout=1) as dps:
    members: list[str] = [dps.id_scope, dps.endpoints["mqtt"], dps.env["DPS_ENDPOINT"], *dps.hubs, *dps.log]

azure_dps_emulator.start(until_stdin_closes=True)  # pyright: ignore
azure_dps_emulator.start(allocation="random")  # pyright: ignore
azure_dps_emulator.start(polls="many")  # pyright: ignore
