"""Which proxy of the environment stands between this machine and a server."""

from __future__ import annotations

import ipaddress
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from gendataagent.core.secrets import shown


def proxy_of(url: str) -> str:
    """Return the proxy that requests to an address pass through, without its password; "" = none.

    The proxies are those of HTTP_PROXY, HTTPS_PROXY, ALL_PROXY and NO_PROXY.
    """
    parts = urlsplit(url)
    proxies = getproxies()
    proxy = proxies.get(parts.scheme) or proxies.get("all")
    if not proxy or not parts.hostname or proxy_bypass(parts.netloc):
        return ""
    return shown(proxy)


def is_this_machine(url: str) -> bool:
    """Return whether an address names this machine, which no proxy elsewhere can reach."""
    host = urlsplit(url).hostname or ""
    try:
        address = ipaddress.ip_address(host)
        return address.is_loopback or address.is_unspecified
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")
