"""PRIVATE_HOSTS: addresses of private networks that what we fetch from and tell may be at. Pure.

Whoever runs a source's server, or the name of one, may point it into our own network: at a server without a password,
or at a cloud's metadata.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

Address = IPv4Address | IPv6Address
Place = tuple[str, int | None]
"""A host in small letters, and a port; None: any."""

NONE = "none"
"""The setting that allows nothing, where a local stack would allow something."""

DECLARED = "declared"
"""The word for: those that a block names as an address, as `localhost` or without a dot; never a cloud's metadata."""

_NAME = re.compile(r"(?P<host>[a-z0-9_]([a-z0-9_.-]*[a-z0-9_])?|\[[0-9a-f:.]+\])(:(?P<port>[0-9]{1,5}))?")
_PUBLIC = IPv6Network("2000::/3")
_NAT64 = IPv6Network("64:ff9b::/96")
_SPECIAL = tuple(map(IPv4Network, ("192.0.0.0/24", "168.63.129.16/32", "161.26.0.0/16", "166.8.0.0/14")))
"""Not private to Python, and yet inside: the special addresses of the IETF, one of which is a cloud's metadata; Azure's
server of settings and certificates; IBM Cloud's services.
"""
_METADATA = tuple(
    map(
        ip_network,
        (
            *("fd00:ec2::/32", "fd20:ce::/32", "fd00:42::/32", "fd00:a9fe:a9fe::/48", "fd00:c1::/32", "fd00:100::/32"),
            *("100.100.100.200", "192.0.0.192", "168.63.129.16"),
        ),
    )
)
"""Of clouds that keep theirs elsewhere than at a link-local address: AWS, Google, Scaleway, Linode, Oracle, Alibaba;
Alibaba, Oracle, Azure.
"""
_KINDS = ("loopback", "link_local", "multicast", "unspecified", "private")


@dataclass(frozen=True)
class PrivateHosts:
    """The private addresses that may be connected to. By default none."""

    declared: bool = False
    places: frozenset[Place] = frozenset()
    networks: tuple[IPv4Network | IPv6Network, ...] = ()

    def refusal(self, host: str, port: int, address: Address, declared: Place | None = None) -> str | None:
        """The reason why not to connect to `address`, which is what `host` resolved to. None: connect.

        `declared` is the place that a source's or a target's block names.
        """
        reached, name = without_wrapping(address), host.lower().rstrip(".")
        if (
            is_public(reached)
            or _is_in(reached, self.networks)
            or not self.places.isdisjoint({(name, None), (name, port), (str(reached), port)})
            or (self.declared and declared == (host.lower(), port) and is_plain(name) and not _is_metadata(reached))
        ):
            return None
        kind = next((kind for kind in _KINDS if getattr(reached, f"is_{kind}")), "no public").replace("_", "-")
        kind = f"{kind} address" if kind == "no public" else f"a {kind} address"
        shown = f"{host} is {kind}" if name == str(address) else f"{host} is at {address}, {kind}"
        place = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        return f"{shown}, which PRIVATE_HOSTS does not allow; add {place} there if it may be asked"


NOTHING_PRIVATE = PrivateHosts()


def private_hosts(setting: str) -> PrivateHosts:
    """The meaning of the setting. Raises ValueError with the part that is none."""
    places, networks = set[Place](), []
    parts = [part.strip().lower() for part in setting.split(",") if part.strip()]
    if parts == [NONE]:
        return NOTHING_PRIVATE
    for part in parts:
        if part == DECLARED:
            continue
        try:
            networks.append(ip_network(part))
            continue
        except ValueError:
            found = _NAME.fullmatch(part)
        if found is None or not 0 < int(found["port"] or 1) <= 65535:
            raise ValueError(
                f"{part!r} is none of: {DECLARED}, a network like 10.20.0.0/16, an address, a host's name, host:port"
            )
        places.add((found["host"].strip("[]"), int(found["port"]) if found["port"] else None))
    return PrivateHosts(DECLARED in parts, frozenset(places), tuple(networks))


def is_plain(host: str) -> bool:
    """True for a host that no stranger's name server answers for: an address, `localhost`, a name without a dot."""
    return is_address(host) or "." not in host or host.endswith(".localhost")


def is_address(host: str) -> bool:
    """True for an address in its usual form: of the others (127.1) a resolver knows the meaning."""
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def is_public(address: Address) -> bool:
    """True for an address of the open internet."""
    if isinstance(address, IPv4Address):
        return address.is_global and not address.is_multicast and not _is_in(address, _SPECIAL)
    return address in _PUBLIC and address.is_global


def _is_metadata(address: Address) -> bool:
    return address.is_link_local or _is_in(address, _METADATA)


def _is_in(address: Address, networks: Iterable[IPv4Network | IPv6Network]) -> bool:
    return any(address in network for network in networks)


def without_wrapping(address: Address) -> Address:
    """The IPv4 address that an IPv6 one stands for (mapped, 6to4, NAT64), else the address itself."""
    if isinstance(address, IPv4Address):
        return address
    if address in _NAT64:
        return IPv4Address(int(address) & 0xFFFFFFFF)
    return address.ipv4_mapped or address.sixtofour or address
