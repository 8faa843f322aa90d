"""What the parts of relay-v2.py share: keys, endpoints, numbers of cases."""

import ipaddress

import plain
from plain import numbers

SECRET = bytes(range(0x20))
PORTS = 64512
CLIENTS = 100
RANDOM_TAGS = 40
TAGS = 1_200_000_000


def derive(label, vip=None):
    """The key of a label, and of a VIP where each has its own."""
    return plain.derive(SECRET, label, endpoint_bytes(vip) if vip else b"")


def endpoint_bytes(endpoint):
    """The bytes of an endpoint: an address of 4 or 16 bytes, and a port of 2."""
    ip, port = endpoint
    if isinstance(ip, ipaddress.IPv6Address):
        return ip.packed + port.to_bytes(2, "big")
    return ip.to_bytes(4, "big") + port.to_bytes(2, "big")


def mapped_bytes(at):
    """An address of 16 bytes, of IPv4 as ::ffff:a.b.c.d, and a port."""
    ip, port = endpoint_bytes(at)[:-2], endpoint_bytes(at)[-2:]
    return (bytes(10) + b"\xff\xff" + ip if len(ip) == 4 else ip) + port


def endpoint(text):
    ip, port = text.split(":")
    return int(ipaddress.IPv4Address(ip)), int(port)


def endpoint6(text):
    ip, port = text.rsplit(":", 1)
    return ipaddress.IPv6Address(ip.strip("[]")), int(port)


def any_endpoint(text):
    return endpoint6(text) if text.startswith("[") else endpoint(text)


def text_of(pair):
    if isinstance(pair[0], ipaddress.IPv6Address):
        return f"[{pair[0]}]:{pair[1]}"
    return f"{ipaddress.IPv4Address(pair[0])}:{pair[1]}"


def clients6(name):
    """IPv6 clients at the edges, and others."""
    ip = ipaddress.IPv6Address
    edges = [(ip(0), 1), (ip(2**128 - 1), 65535), endpoint6("[2001:db8::1]:1024")]
    return edges + [(ip(n % 2**128), 1 + (n >> 128) % 65535) for n in numbers(name, 37)]
