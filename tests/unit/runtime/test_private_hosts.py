"""Which addresses count as private, whatever form they are written in, and what PRIVATE_HOSTS allows of them."""

from ipaddress import ip_address

import pytest

from runtime.errors import SettingsError
from runtime.private_hosts import private_hosts
from runtime.settings import load_settings

PRIVATE = [
    "127.0.0.1", "127.8.8.8", "10.1.2.3", "172.16.0.1", "172.31.255.255", "192.168.1.1", "0.0.0.0", "0.1.2.3",  # noqa: S104
    "169.254.169.254", "169.254.170.2", "100.64.0.1", "100.127.255.255", "192.0.0.8", "192.0.0.192", "192.0.2.1",
    "198.18.0.1", "198.51.100.1", "203.0.113.1", "224.0.0.1", "239.255.255.250", "240.0.0.1", "255.255.255.255",
    "::", "::1", "fe80::1", "fe80::1%1", "fc00::1", "fd00:ec2::254", "fec0::1", "ff02::1", "2001:db8::1", "100::1",
    "::ffff:127.0.0.1", "::ffff:169.254.169.254", "::ffff:10.0.0.1", "::127.0.0.1", "::ffff:0:127.0.0.1",
    "2002:7f00:1::", "2002:a9fe:a9fe::1", "64:ff9b::127.0.0.1", "64:ff9b::a9fe:a9fe", "64:ff9b:1::127.0.0.1",
    "2001:0:7f00:1::1", "4000::1",
    "168.63.129.16", "::ffff:168.63.129.16", "64:ff9b::a83f:8110", "2002:a83f:8110::1", "161.26.0.10", "166.9.15.8",
]  # fmt: skip
PUBLIC = [
    "1.1.1.1",
    "8.8.8.8",
    "168.63.129.17",
    "161.27.0.1",
    "166.12.0.1",
    "172.32.0.1",
    "100.128.0.1",
    "2606:4700:4700::1111",
    "64:ff9b::808:808",
    "::ffff:8.8.8.8",
]


@pytest.mark.parametrize("address", PRIVATE)
def test_a_private_address_is_refused_in_every_form(address: str) -> None:
    refusal = private_hosts("").refusal("feeds.example.org", 80, ip_address(address))
    assert refusal is not None
    assert all(part in refusal for part in ("feeds.example.org", str(ip_address(address)), "PRIVATE_HOSTS"))


@pytest.mark.parametrize("address", PUBLIC)
def test_a_public_address_is_not(address: str) -> None:
    assert private_hosts("").refusal("feeds.example.org", 80, ip_address(address)) is None


@pytest.mark.parametrize(("setting", "host", "port", "address"), [
    ("10.0.0.0/8", "feeds.example.org", 80, "10.9.8.7"),
    ("10.0.0.0/8", "feeds.example.org", 80, "::ffff:10.9.8.7"),
    ("10.9.8.7", "10.9.8.7", 8080, "10.9.8.7"),
    ("10.9.8.7:8080", "wiki", 8080, "10.9.8.7"),
    ("fd00::/8", "wiki", 80, "fd12::1"),
    ("[::1]:8080", "::1", 8080, "::1"),
    ("wiki.example.org", "Wiki.Example.Org.", 80, "10.0.0.1"),
    ("other, wiki.example.org:81", "wiki.example.org", 81, "10.0.0.1"),
])  # fmt: skip
def test_what_is_listed_is_allowed(setting: str, host: str, port: int, address: str) -> None:
    assert private_hosts(setting).refusal(host, port, ip_address(address)) is None


@pytest.mark.parametrize(("setting", "host", "port", "address"), [
    ("10.0.0.0/16", "10.1.0.1", 80, "10.1.0.1"),
    ("wiki.example.org:81", "wiki.example.org", 80, "10.0.0.1"),
    ("example.org", "wiki.example.org", 80, "10.0.0.1"),
    ("none", "127.0.0.1", 80, "127.0.0.1"),
    ("none", "none", 80, "127.0.0.1"),
    (" None ", "none", 80, "127.0.0.1"),
])  # fmt: skip
def test_nothing_else_is(setting: str, host: str, port: int, address: str) -> None:
    assert private_hosts(setting).refusal(host, port, ip_address(address)) is not None


@pytest.mark.parametrize("host", ["127.0.0.1", "10.0.0.5", "::1", "localhost", "mock-server", "shop.localhost"])
def test_declared_allows_what_no_stranger_can_point_elsewhere(host: str) -> None:
    allowed = private_hosts("declared")
    assert allowed.refusal(host, 80, ip_address("127.0.0.1"), (host, 80)) is None
    assert allowed.refusal(host, 81, ip_address("127.0.0.1"), (host, 80)) is not None
    assert allowed.refusal(host, 80, ip_address("127.0.0.1"), ("feeds.example.org", 80)) is not None


CLOUDS = [
    *("169.254.169.254", "100.100.100.200", "192.0.0.192", "168.63.129.16"),
    *("fe80::1", "fd00:ec2::254", "fd20:ce::254", "fd00:42::42", "fd00:a9fe:a9fe::1"),
    *("fd00:c1::a9fe:a9fe", "fd00:100::100:200"),
]


@pytest.mark.parametrize("host", CLOUDS)
def test_declared_allows_no_metadata_of_a_cloud_but_its_address_does(host: str) -> None:
    refusal = private_hosts("declared").refusal(host, 80, ip_address(host), (host, 80))
    assert refusal is not None
    place = refusal.partition("; add ")[2].partition(" there")[0]
    assert private_hosts(place).refusal(host, 80, ip_address(host)) is None


def test_declared_allows_no_public_name_that_resolves_to_a_private_address() -> None:
    refusal = private_hosts("declared").refusal("example.org", 80, ip_address("127.0.0.1"), ("example.org", 80))
    assert refusal == (
        "example.org is at 127.0.0.1, a loopback address, which PRIVATE_HOSTS does not allow; "
        "add example.org:80 there if it may be asked"
    )


@pytest.mark.parametrize("part", ["http://wiki", "10.0.0.0/40", "10.0.0.1/8", "wiki:0", "wiki:70000", "a b", "*.org"])
def test_a_setting_that_is_no_host_is_named(part: str) -> None:
    with pytest.raises(SettingsError, match=r"PRIVATE_HOSTS=.*none of: declared, a network"):
        load_settings(private_hosts=f"declared, {part}")
