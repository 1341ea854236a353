"""Which addresses a download may connect to: public ones, and networks that the user names.

A list of URLs is written by strangers.  Without this, `http://169.254.169.254/` or a name that
resolves to 10.0.0.5 would make the downloader a scanner of the network that it runs in.
"""

import socket
from collections.abc import Callable, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Any

from filters.rule import RecipeError

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

_NAT64 = IPv6Network("64:ff9b::/96")
"""IPv6 addresses whose last 32 bits are an IPv4 one (RFC 6052)."""
_GIVEN_OUT = (IPv6Network("2000::/3"), _NAT64)
"""IPv6 addresses that hosts of the internet have, as IANA has given out no others."""


class AddressRefusedError(OSError):
    """An address is not public, and not allowed either."""


def read_networks(texts: Sequence[str]) -> tuple[Network, ...]:
    """Read networks such as `10.0.0.0/8`, or single addresses.

    Raises:
        RecipeError: One is none.
    """
    try:
        return tuple(ip_network(text) for text in texts)
    except ValueError as error:
        raise RecipeError(
            f"--allow-network must be a network such as 10.0.0.0/8, got: {error}; correct it"
        ) from None


def may_connect(address: Address, allowed: Sequence[Network]) -> bool:
    """Say whether an address is public, or in one of the networks that are allowed.

    An IPv6 address that stands for an IPv4 one is judged as both.
    """
    every = [address, *_embedded(address)]
    if any(one in network for network in allowed for one in every):
        return True
    if address.version == 6 and not any(address in network for network in _GIVEN_OUT):
        return False
    return all(one.is_global and not one.is_multicast for one in every)


def checked_socket(allowed: Sequence[Network]) -> Callable[[Any], socket.socket]:
    """Return what makes sockets for addresses of `getaddrinfo`, and refuses those not allowed.

    It sees the very address that is connected to next, so it does not matter how a name was
    resolved before, or will be after: DNS rebinding and redirects change nothing.
    """

    def make(info: tuple[int, int, int, str, tuple[Any, ...]]) -> socket.socket:
        family, kind, protocol, _, address = info
        if not may_connect(ip_address(address[0]), allowed):
            raise AddressRefusedError("the address is not public")
        return socket.socket(family, kind, protocol)

    return make


def _embedded(address: Address) -> list[IPv4Address]:
    """Return the IPv4 addresses that an IPv6 address leads to."""
    if isinstance(address, IPv4Address):
        return []
    found = [address.ipv4_mapped, address.sixtofour, *(address.teredo or ())]
    if address in _NAT64:
        found.append(IPv4Address(int(address) & 0xFFFF_FFFF))
    return [one for one in found if one]
