"""Captures of 512 packets for services other than the one of captures.py.

Each frame, and what a POP makes of it, comes from the fixtures' spec.py and scapy: a second
implementation of docs/protocol.md. A quarter of the packets are segments of clients with
timestamps, a quarter without, and half are from targets; no two are of the same connection.
"""

import functools

from packets import Segment, ethernet, timestamps
from spec import Service
from spec_tunnel import Tunnel

COUNT = 512
IN_MAC, OUT_MAC = "02:00:00:00:01:01", "02:00:00:00:01:02"
NEIGHBOUR_MAC, GATEWAY_MAC = "02:00:00:00:0a:01", "02:00:00:00:0b:01"
TTL_IN, ID = 61, 7
VIP, TARGET = "203.0.113.10:443", "198.51.100.10:8443"
AS_VIP = "198.51.100.10:443"
VIP6, TARGET6 = "[2001:db8:10::10]:443", "[2001:db8:51::10]:8443"
POOL6, FROM = "fd00::/20", "203.0.113.9"


def many():
    """256 services with four targets each, that share a pool."""
    for number in range(256):
        vip = f"203.0.113.{16 + number // 16}:{443 + number % 16}"
        targets = [f"198.51.100.{10 + target}:{8000 + number}" for target in range(4)]
        yield Service(f"s{number}", vip, targets, pool="100.64.8.0/24", mss=1448)


# The services of each capture; their config is that of the bench's src/config.rs.
SERVICES = {
    "services": lambda: list(many()),
    "prefix": lambda: [Service("web", VIP, [TARGET6], prefix="2001:db8:64::/64")],
    "transparent": lambda: [Service("web", VIP, [TARGET])],
    "transparent6": lambda: [Service("web", VIP6, [TARGET6])],
    "pool6": lambda: [Service("web", VIP6, [TARGET6], pool=POOL6)],
    "ipip": lambda: [Tunnel("web", VIP, [AS_VIP], source=FROM)],
    "gue": lambda: [Tunnel("web", VIP, [AS_VIP], protocol="gue", source=FROM)],
}


def payload(length):
    return bytes(number % 251 for number in range(length))


def segment(number, data_len, options):
    """A segment of the connection with this number."""
    flags = "PA" if data_len else "A"
    seq = int(number) * 65537 % 2**32
    return Segment(
        flags, seq=seq, ack=2, options=options, payload=payload(data_len), window=502, id=ID
    )


def client(number, service):
    """A client with an address of its own."""
    port = 1024 + number * 40503 % 64512
    if service.vip.startswith("["):
        return f"[2001:db8:99:{number:x}::1]:{port}"
    address = 0xC6120000 + number * 7919 % 131072
    return ".".join(str(byte) for byte in address.to_bytes(4, "big")) + f":{port}"


def packet(number, services):
    """A frame, and the frame that becomes of it."""
    service = services[number % len(services)]
    # Services do not always get the same kind.
    kind = (number + number // 256) % 4
    at = client(number, service)
    sent = segment(number, 0, [] if kind == 1 else timestamps(number + 1, number + 70))
    if kind < 2:
        came, left = sent.between(at, service.vip, TTL_IN), service.up(at, sent, TTL_IN)
    else:
        came, left = service.from_target(at, sent, TTL_IN), service.down(at, sent, TTL_IN)
    return ethernet(NEIGHBOUR_MAC, IN_MAC, came), ethernet(OUT_MAC, GATEWAY_MAC, left, pad=False)


def make(name):
    """All input and output frames of a capture, in order."""
    services = SERVICES[name]()
    for service in services:
        # What depends on the client alone is computed once.
        service.target_of = functools.cache(service.target_of)
        service.mapped = functools.cache(service.mapped)
    return zip(*(packet(number, services) for number in range(COUNT)), strict=True)
