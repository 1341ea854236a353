"""Addresses that a download may connect to."""

import socket
from ipaddress import ip_address

import pytest

from filters.rule import RecipeError
from pipelines.addresses import AddressRefusedError, checked_socket, may_connect, read_networks

PUBLIC = ("93.184.216.34", "8.8.8.8", "2606:2800:220:1:248:1893:25c8:1946", "64:ff9b::808:808")
PRIVATE = (
    *("0.0.0.0", "10.1.2.3", "100.64.0.1", "127.0.0.1", "127.8.8.8", "169.254.169.254"),
    *("172.16.0.1", "192.0.2.1", "192.168.1.1", "198.18.0.1", "224.0.0.1", "255.255.255.255"),
    *("::", "::1", "::7f00:1", "fc00::1", "fe80::1", "ff02::1", "2001:db8::1"),
    *("::ffff:127.0.0.1", "::ffff:10.0.0.1", "64:ff9b::a00:1", "64:ff9b:1::1"),
    *("2002:7f00:1::", "2002:a00:1::1", "2001:0:4136:e378:8000:63bf:f5ff:fffe"),
)


@pytest.mark.parametrize("address", PUBLIC)
def test_public_addresses_may_be_connected_to(address: str) -> None:
    assert may_connect(ip_address(address), ())


@pytest.mark.parametrize("address", PRIVATE)
def test_no_other_address_may(address: str) -> None:
    assert not may_connect(ip_address(address), ())


@pytest.mark.parametrize(
    ("address", "allowed"),
    [
        ("10.0.0.1", True),
        ("10.255.0.1", True),
        ("172.16.0.1", False),
        ("::ffff:10.0.0.1", True),
        ("fd00::5", True),
        ("fd00::6", False),
    ],
)
def test_networks_that_are_named_are_allowed(address: str, allowed: bool) -> None:
    networks = read_networks(["10.0.0.0/8", "fd00::5"])

    assert may_connect(ip_address(address), networks) == allowed


def test_what_is_no_network_is_refused() -> None:
    with pytest.raises(RecipeError, match=r"must be a network .*, got: 'lan' does not"):
        read_networks(["lan"])


def test_a_socket_is_made_for_no_other_address() -> None:
    make = checked_socket(read_networks(["127.0.0.1"]))
    kind = (socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "")

    with make((*kind, ("127.0.0.1", 80))) as made:
        assert made.family == socket.AF_INET
    with pytest.raises(AddressRefusedError):
        make((*kind, ("127.0.0.2", 80)))
