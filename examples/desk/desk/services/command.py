"""The command line that all services share."""

import argparse
import sys
import threading

from desk.services.http import Routes, Service


def parser(description: str) -> argparse.ArgumentParser:
    """A parser that knows what every service knows."""
    made = argparse.ArgumentParser(description=description)
    made.add_argument("--port", type=int, default=0, help="0 lets the system choose (default)")
    made.add_argument("--verbose", action="store_true", help="write an access log to standard error")
    made.add_argument(
        "--stop-with-stdin", action="store_true", help="stop when standard input ends: with the process that holds it"
    )
    return made


def serve(name: str, routes: Routes, options: argparse.Namespace) -> None:
    """Run the service until it is told to stop."""
    service = Service(name, routes, port=options.port, verbose=options.verbose)
    if options.stop_with_stdin:
        threading.Thread(target=_stop_with_stdin, args=(service,), daemon=True).start()
    service.run()


def _stop_with_stdin(service: Service) -> None:
    sys.stdin.read()
    service.stop()
