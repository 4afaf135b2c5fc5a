"""Which network address a name may lead to."""

from __future__ import annotations

import ipaddress
import socket

TRANSLATED = tuple(ipaddress.ip_network(net) for net in ("64:ff9b::/96", "64:ff9b:1::/48", "2002::/16", "2001::/32"))
"""IPv6 ranges that carry an IPv4 address, public or not (NAT64, 6to4, Teredo)."""


class AddressError(Exception):
    """The host may not be asked; the message says which setting allows it."""


def addresses_of(host: str, port: int, private: bool, known: bool) -> tuple[str, ...]:
    """The addresses to connect to, the first that answers, so that nobody resolves the name again and gets others.

    Args:
        private: any address will do, the operator named this host.
        known: the host is allowed, or Label Studio redirected to it.

    Raises:
        AddressError: the host is not allowed, not found, or one of its addresses is not public.
    """
    if not known:
        raise AddressError(
            f"images are not fetched from {host}:{port}. If they should be, add it to MASKLOOP_IMAGE_HOSTS."
        )
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise AddressError(f"the host {host} is not found ({error}).") from None
    addresses = tuple(dict.fromkeys(str(entry[4][0]).split("%")[0] for entry in found))
    hidden = [address for address in addresses if not is_public(address)]
    if hidden and not private:
        raise AddressError(
            f"{host} has the address {hidden[0]}, which is not public. If that is meant, name the host in full in "
            "MASKLOOP_IMAGE_HOSTS."
        )
    return addresses


def is_public(address: str) -> bool:
    """Whether an address is one of the open Internet, and not of this machine, its network or the cloud it runs in."""
    ip = ipaddress.ip_address(address)
    if isinstance(ip, ipaddress.IPv6Address):
        if ip.ipv4_mapped is not None:
            ip = ip.ipv4_mapped
        elif any(ip in net for net in TRANSLATED):
            return False
    return ip.is_global and not ip.is_multicast and not ip.is_reserved
