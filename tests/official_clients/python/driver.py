"""What the drivers have in common: they read one JSON request from each line of stdin and write one JSON outcome to
each line of stdout, as the Node drivers do. Secrets come in by stdin, because a command line is public.
"""

import importlib.metadata
import json
import os
import sys


def drive(package, carry_out, describe):
    """Announces the client and answers requests until stdin ends.

    `carry_out` takes a request and returns the result; `describe` returns the report of an exception.
    """
    write({"client": f"{package} {importlib.metadata.version(package)}"})
    for line in sys.stdin:
        request = json.loads(line)
        try:
            write({"result": carry_out(request)})
        except Exception as error:  # whatever the client raises is the outcome
            write({"error": describe(error)})
    # A client that failed may keep threads, which would keep the process.
    os._exit(0)


def by_name(*handlers):
    """Carries out { do, ... }: `do` names the handler, and the rest are its arguments."""
    named = {handler.__name__: handler for handler in handlers}
    return lambda request: named[request.pop("do")](**request)


def write(value):
    print(json.dumps(value), flush=True)
