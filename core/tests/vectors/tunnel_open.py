#!/usr/bin/env python3
"""Test vectors of open tunnels, computed by a second, plain implementation.

    tunnel_open.py            writes tunnel_open.json beside itself
    tunnel_open.py --check    computes it again and compares; exit 1 on a difference

It follows docs/protocol-tunnel.md and shares nothing with the Rust code; plain.py beside it has the
cryptography. The vectors freeze the addresses: a change of any value here breaks the connections of
all open addresses.
"""

import ipaddress
import pathlib
import sys

sys.dont_write_bytecode = True
import plain
from plain import aes128, cmac, derive, expand_key, numbers

OUTPUT = pathlib.Path(__file__).with_suffix(".json")

SEQUENCE = bytes(range(0x20, 0x40))
# The older epoch is odd, and the newer one has wrapped.
TOKENS = {255: bytes(range(0x40, 0x60)), 0: bytes(range(0x60, 0x80))}
VIP = "203.0.113.22:443"
TENANT = 0x0102
PREFIXES = ["2001:db8::/32", "2001:db8:4000::/36", "2001:db8:a00::/41", "2001:db8:a:0::/48"]
TICK_MS, STRIDE, LAG, OFFSET = 8000, 4096, 4, 16384
NOT_BEFORE_TICK = 224_417_748


def endpoint_bytes(text):
    ip, port = text.rsplit(":", 1)
    return ipaddress.IPv4Address(ip).packed + int(port).to_bytes(2, "big")


def bits(number, count):
    """The bits of a number, the highest first."""
    return [number >> i & 1 for i in range(count - 1, -1, -1)]


def number(bits):
    return int("".join(map(str, bits)) or "0", 2)


def feistel(key, is_inverse, x):
    """The permutation of a string of bits."""
    schedule = expand_key(key)
    half = len(x) // 2
    halves = [x[:half], x[half:]]
    for step in range(8):
        i = 7 - step if is_inverse else step
        changed, other = i % 2, 1 - i % 2
        block = bits(i, 3) + bits(0, 42) + bits(number(halves[other]), 83)
        output = aes128(schedule, number(block).to_bytes(16, "big"))
        stream = bits(int.from_bytes(output, "big"), 128)[-len(halves[changed]) :]
        halves[changed] = [a ^ b for a, b in zip(halves[changed], stream)]
    return halves[0] + halves[1]


def key_of(epoch):
    return derive(TOKENS[epoch], "open", endpoint_bytes(VIP) + TENANT.to_bytes(2, "big"))


def encode(prefix, epoch, agent, base_high):
    network = ipaddress.IPv6Network(prefix)
    p = network.prefixlen
    x = bits(int.from_bytes(endpoint_bytes(agent), "big"), 48) + bits(base_high, 16)
    x += [0] * (63 - p)
    body = feistel(key_of(epoch), False, x)
    head = bits(int(network.network_address), 128)[:p]
    return ipaddress.IPv6Address(number(head + [epoch % 2] + body))


def decode(prefix, address):
    """Agent and base, or none."""
    network = ipaddress.IPv6Network(prefix)
    if address not in network:
        return None
    p = network.prefixlen
    body = bits(int(address), 128)[p:]
    epoch = 255 if body[0] else 0
    x = feistel(key_of(epoch), True, body[1:])
    if any(x[64:]):
        return None
    ip, port = ipaddress.IPv4Address(number(x[:32])), number(x[32:48])
    return f"{ip}:{port}", number(x[48:64])


def address_vectors():
    edges = [("0.0.0.0:0", 0), ("255.255.255.255:65535", 0xFFFF)]
    for prefix in PREFIXES:
        others = [
            (f"{ipaddress.IPv4Address(n % 2**32)}:{n >> 32 & 0xFFFF}", n >> 48 & 0xFFFF)
            for n in numbers(prefix, 4)
        ]
        for agent, base_high in edges + others:
            for epoch in TOKENS:
                address = encode(prefix, epoch, agent, base_high)
                assert decode(prefix, address) == (agent, base_high)
                yield {
                    "prefix": prefix,
                    "epoch": epoch,
                    "agent": agent,
                    "base_high": base_high,
                    "address": str(address),
                }


def made_up_vectors():
    """A real address of a /48, and others that no POP made."""
    prefix = PREFIXES[-1]
    first = int(ipaddress.IPv6Network(prefix).network_address)
    real = encode(prefix, 0, "192.0.2.1:40000", 0x1234)
    assert decode(prefix, real) == ("192.0.2.1:40000", 0x1234)
    yield {"address": str(real), "agent": "192.0.2.1:40000"}
    for n in numbers("made up", 30):
        address = ipaddress.IPv6Address(first | n % 2**80)
        yield {"address": str(address), "agent": (decode(prefix, address) or [None])[0]}
    for bit in range(0, 80, 7):
        address = ipaddress.IPv6Address(int(real) ^ 1 << bit)
        yield {"address": str(address), "agent": (decode(prefix, address) or [None])[0]}


def start(agent):
    key = derive(SEQUENCE, "sequence", endpoint_bytes(VIP))
    return int.from_bytes(cmac(key, endpoint_bytes(agent))[:4], "big")


def offset_of(packet):
    """The offset of a packet down."""
    message = (packet[8:40] + packet[40:56]).ljust(48, b"\0")
    key = derive(SEQUENCE, "open offset", endpoint_bytes(VIP))
    spread = int.from_bytes(cmac(key, message)[:4], "big")
    return spread % ((OFFSET - 4 - len(packet)) // 64 + 1) * 64


def ipv6(src, dst, payload):
    head = bytes([0x6A, 0xBC, 0xDE, 0xF1]) + len(payload).to_bytes(2, "big") + bytes([17, 57])
    return head + ipaddress.IPv6Address(src).packed + ipaddress.IPv6Address(dst).packed + payload


def packet_vectors():
    agent, base, tick = "192.0.2.1:40000", 0xFFF08000, NOT_BEFORE_TICK + 5
    host = "2600::5"
    for index, (epoch, size) in enumerate([(0, 0), (255, 7), (0, 16), (0, 17), (255, 1316)]):
        prefix = PREFIXES[-1]
        address = encode(prefix, epoch, agent, base >> 16)
        payload = bytes((7 * i + index) % 256 for i in range(size))
        off, up_offset = [0, -3, 3, 1, -1][index], 64 * [0, 1, 30, 200, 233][index]
        sent, received = ipv6(str(address), host, payload), ipv6(host, str(address), payload)
        offset = offset_of(received)
        yield {
            "unix_ms": tick * TICK_MS,
            "agent": agent,
            "base_high": base >> 16,
            "up": {
                "seq": (base + STRIDE * (tick + off) + 1 + up_offset) % 2**32,
                "ack": (start(agent) + STRIDE * (tick + off - LAG) + 1) % 2**32,
                "payload": (bytes([0x50, up_offset // 64, 0, 0]) + sent).hex(),
            },
            "down": {
                "packet": received.hex(),
                "seq": (start(agent) + STRIDE * tick + 1 + offset) % 2**32,
                "ack": ((base & 0xFFFF0000) + 0x6000 + STRIDE * (tick - LAG) + 1) % 2**32,
                "header": bytes([0x60, offset // 64, 0, 0]).hex(),
            },
        }


def make():
    return {
        "protocol": "tunnel-v2",
        "sequence_secret": SEQUENCE.hex(),
        "epochs": [
            {"epoch": 255, "secret": TOKENS[255].hex(), "not_before_ms": 0},
            {"epoch": 0, "secret": TOKENS[0].hex(), "not_before_ms": NOT_BEFORE_TICK * TICK_MS},
        ],
        "vip": VIP,
        "tenant": TENANT,
        "addresses": list(address_vectors()),
        "made_up": list(made_up_vectors()),
        "packets": list(packet_vectors()),
    }


if __name__ == "__main__":
    sys.exit(plain.write_or_check(OUTPUT, "Makes or checks the vectors of open tunnels.", make))
