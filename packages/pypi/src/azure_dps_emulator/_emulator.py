"""Starts the emulator program, waits for its ready line, and ends it."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import re
import subprocess
import sys
import tempfile
import threading
from collections import deque
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Callable, Generator, Mapping

from ._options import Options, to_flags, to_snake_case, to_variables
from ._program import find_program

if TYPE_CHECKING:
    from typing_extensions import Unpack

_LOG_LINES = 500
_STOP_TIMEOUT = 10
_SAVE_TIMEOUT = 120


class StartError(RuntimeError):
    """The emulator cannot start. The message is the program's own."""


class StopError(RuntimeError):
    """The emulator did not end well, for example because it cannot save its state, was killed, or is killed
    after `stop_timeout`."""


class Emulator:
    """A running emulator. As a context manager it stops at the end of the block."""

    id_scope: str
    """The ID scope that devices name."""
    service_connection_string: str
    """The connection string for a service client, with all rights."""
    ca_file: str
    """A PEM file with the authority that clients have to trust. Without `ca_dir` it is deleted at the end."""
    endpoints: Mapping[str, str]
    """Where the emulator listens: `https`, `mqtt` and `amqp` are `host:port`, `manage` is a URL."""
    hubs: list[str]
    """The names of the linked hubs."""
    hub_connection_strings: Mapping[str, str]
    """The connection string for a service client of each hub, by the name of the hub."""
    policy_connection_strings: Mapping[str, str]
    """The connection string of each access policy, by its name. Empty without the option `policy`."""

    def __init__(self, process: _Process, members: Mapping[str, Any]) -> None:
        """Made by `start`."""
        self._process = process
        self._reported = False
        self.policy_connection_strings = {}
        for name, value in members.items():
            setattr(self, to_snake_case(name), value)

    @property
    def env(self) -> dict[str, str]:
        """The environment variables with which a client uses this emulator. `DPS_ENDPOINT` is that of HTTPS."""
        return {
            "DPS_CONNECTION_STRING": self.service_connection_string,
            "DPS_ENDPOINT": self.endpoints["https"],
            "DPS_ID_SCOPE": self.id_scope,
            "DPS_CA_FILE": self.ca_file,
        }

    @property
    def pid(self) -> int:
        """The id of the process."""
        return self._process.popen.pid

    @property
    def log(self) -> list[str]:
        """The last lines of the log, with the reason of each refused request."""
        return list(self._process.log)

    @property
    def running(self) -> bool:
        """Whether the emulator has not ended yet."""
        return self._process.popen.poll() is None

    def stop(self) -> None:
        """Ends the emulator, and waits until it has ended. May be called again.

        Raises `StopError` once if the emulator does not end well, or did not before this call.
        """
        killed = self._process.end()
        status = self._process.popen.returncode
        if status == 0 or self._reported:
            return
        self._reported = True
        ended = f"azure-dps-emulator ended with status {status}"
        raise StopError(killed or self._process.own_line() or ended)

    def __enter__(self) -> Emulator:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def start(**options: Unpack[Options]) -> Emulator:
    """Starts an emulator. It ends with `stop()`, at the end of a `with` block, or when this process ends,
    even when it is killed.

    Raises `StartError` if the emulator cannot start, with the reason.
    """
    others: dict[str, Any] = {name: value for name, value in options.items() if value is not None}
    program = others.pop("program", None) or _installed_program()
    start_timeout = others.pop("start_timeout", 30)
    env = {**os.environ, **to_variables(others)}
    # An empty variable counts as absent.
    saves = bool(others.get("data", env.get("DPS_EMULATOR_DATA")))
    stop_timeout = others.pop("stop_timeout", _SAVE_TIMEOUT if saves else _STOP_TIMEOUT)
    on_log = others.pop("on_log", None)
    with _seed_file(others.pop("seed", None)) as seed:
        process = _Process(program, to_flags({**others, "seed": seed}), env, on_log, stop_timeout, saves)
        try:
            return Emulator(process, process.ready(start_timeout))
        except BaseException:
            process.kill()
            raise


def _installed_program() -> Path:
    try:
        return find_program()
    except FileNotFoundError as error:
        raise StartError(str(error)) from error


@contextlib.contextmanager
def _seed_file(seed: Any) -> Generator[Any, None, None]:
    """A seed that is not in a file yet is in one until the program has read it. Only this user can read it,
    since it may have keys."""
    if seed is None or seed is False or isinstance(seed, (str, os.PathLike)):
        yield seed
        return
    try:
        text = json.dumps(seed)
    except (TypeError, ValueError) as error:
        raise StartError(f"the seed cannot be used: {error}") from error
    with contextlib.ExitStack() as stack:
        try:
            folder = tempfile.TemporaryDirectory(prefix="azure-dps-emulator-seed-")
            file = Path(stack.enter_context(folder)) / "seed.json"
            file.write_text(text, encoding="utf-8")
        except OSError as error:
            raise StartError(f"the seed cannot be written to a temporary file: {error}") from error
        yield file


class _Process:
    """The program, and the threads that read what it writes. It ends when its standard input closes, which
    this process holds open: so it does not outlive this process, however that ends."""

    def __init__(
        self,
        program: str | os.PathLike[str],
        flags: list[str],
        env: Mapping[str, str],
        on_log: Callable[[str], None] | None,
        stop_timeout: float,
        saves: bool,
    ) -> None:
        self._stop_timeout = stop_timeout
        self._saves = saves
        pipe = subprocess.PIPE
        command = [os.fspath(program), "--until-stdin-closes", *flags]
        try:
            self.popen = subprocess.Popen(
                command, env=env, stdin=pipe, stdout=pipe, stderr=pipe, encoding="utf-8", errors="replace"
            )
        except (OSError, ValueError) as error:
            raise StartError(f"{command[0]} cannot be started: {error}") from error
        self.log: deque[str] = deque(maxlen=_LOG_LINES)
        self._lines: queue.Queue[str] = queue.Queue()
        # Each thread ends with its pipe.
        self._readers = [
            threading.Thread(target=self._read_log, args=(self.popen.stderr, on_log), daemon=True),
            threading.Thread(target=self._read_ready, args=(self.popen.stdout,), daemon=True),
        ]
        for reader in self._readers:
            reader.start()

    def _read_log(self, pipe: IO[str], on_log: Callable[[str], None] | None) -> None:
        for line in pipe:
            self.log.append(line.rstrip("\n"))
            if on_log:
                try:
                    on_log(self.log[-1])
                except Exception:
                    # Reported as that of a thread. The pipe is read on: a full one would stop the program.
                    failure = (*sys.exc_info(), threading.current_thread())
                    threading.excepthook(threading.ExceptHookArgs(failure))

    def _read_ready(self, pipe: IO[str]) -> None:
        self._lines.put(pipe.readline())

    def ready(self, start_timeout: float) -> Mapping[str, Any]:
        try:
            line = self._lines.get(timeout=start_timeout)
        except queue.Empty:
            raise StartError(f"azure-dps-emulator was not ready within {start_timeout} s") from None
        if not line:
            raise StartError(self._why_ended())
        try:
            members: dict[str, Any] = json.loads(line)
            if members.pop("event") == "ready":
                return members
        except (ValueError, AttributeError, KeyError, TypeError):
            pass
        raise StartError(f"not the ready line of azure-dps-emulator: {line}")

    def _why_ended(self) -> str:
        """Why the program cannot start."""
        self.end()
        own = self.own_line()
        if own:
            return own
        text = "\n".join(self.log)
        if text.startswith("error: "):
            # A flag that is not valid: what is wrong and a hint, without the usage below it.
            return "azure-dps-emulator: " + re.split(r"\s*\n\s*\n(?:Usage|For more)", text)[0]
        return f"azure-dps-emulator ended with status {self.popen.returncode} before it was ready: {text}"

    def own_line(self) -> str | None:
        """The line with which the program reports why it failed."""
        own = [line for line in self.log if line.startswith("azure-dps-emulator: ")]
        return own[-1] if own else None

    def end(self) -> str | None:
        """Ends the program. Returns why it was killed, if it was."""
        assert self.popen.stdin
        with contextlib.suppress(OSError):
            self.popen.stdin.close()
        if os.name == "posix":
            # A process that was forked without exec, as by multiprocessing, may hold the standard input open
            # too. On Windows none is forked, and this would kill the program.
            self.popen.terminate()
        killed = None
        try:
            self.popen.wait(self._stop_timeout)
        except subprocess.TimeoutExpired:
            killed = f"azure-dps-emulator did not end within {self._stop_timeout} s and was killed"
            if self._saves:
                killed += ", and its state was not saved: a larger `stop_timeout` gives it more time"
            self.popen.kill()
        self._wait()
        return killed

    def kill(self) -> None:
        self.popen.kill()
        self._wait()

    def _wait(self) -> None:
        self.popen.wait()
        for reader in self._readers:
            if reader is not threading.current_thread():
                reader.join(_STOP_TIMEOUT)
        for pipe in (self.popen.stdin, self.popen.stdout, self.popen.stderr):
            assert pipe
            with contextlib.suppress(OSError):
                pipe.close()
