"""``python -m crossfade.proxy --upstream URL --listen HOST:PORT``: a plain proxy, with no configuration file."""

from __future__ import annotations

import argparse
import ipaddress
import sys

from crossfade.shim.errors import ConfigurationError

from .limits import parse_limits
from .serving import Serving, parse_listen, parse_upstream, run
from .tls import server_context


def main(arguments: list[str] | None = None) -> int:
    """Run the proxy until it is told to stop; 2 when its settings are wrong."""
    parser = argparse.ArgumentParser(prog="python -m crossfade.proxy", description=__doc__)
    parser.add_argument("--upstream", action="append", required=True, metavar="URL", help="again for a second target")
    parser.add_argument("--listen", default="127.0.0.1:8080", metavar="HOST:PORT")
    parser.add_argument("--limits", action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument("--trusted-proxy", action="append", default=[], metavar="CIDR")
    parser.add_argument("--access-log", default="", metavar="PATH", help="- for standard output")
    parser.add_argument("--workers", type=int, default=1, metavar="N", help="processes that share the address")
    parser.add_argument("--tls", nargs=2, metavar=("CERTIFICATE", "KEY"), help="PEM files the clients are shown")
    options = parser.parse_args(arguments)
    try:
        serving = Serving(
            listen=parse_listen(options.listen),
            upstreams={"default": tuple(parse_upstream(url) for url in options.upstream)},
            limits=parse_limits(dict(_setting(text) for text in options.limits)),
            trusted=tuple(ipaddress.ip_network(text) for text in options.trusted_proxy),
            access_log=options.access_log,
            tls=server_context(*options.tls) if options.tls else None,
        )
    except (ConfigurationError, ValueError) as error:
        sys.stderr.write(f"{error}\n")
        return 2
    run(serving, workers=options.workers)
    return 0


def _setting(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise ConfigurationError(f"{text!r} is not NAME=VALUE", where="limits")
    return name, value


if __name__ == "__main__":
    sys.exit(main())
