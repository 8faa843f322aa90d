#!/usr/bin/env python3
"""Test vectors of relay mode's mapping, computed by a second, plain implementation.

    relay-v1.py            writes relay-v1.json beside itself
    relay-v1.py --check    computes it again and compares; exit 1 on a difference

It follows docs/protocol.md and shares nothing with the Rust code; plain.py beside it has the
cryptography. The vectors freeze the mapping: POPs of different versions relay the same connections,
so a change of any value here breaks established connections in a rolling upgrade.
"""

import ipaddress
import pathlib
import sys

sys.dont_write_bytecode = True
import plain
from plain import aes128, expand_key, numbers

OUTPUT = pathlib.Path(__file__).with_suffix(".json")

SECRET = bytes(range(0x20))
POOL_BITS = [2, 8, 9, 16]
CLIENTS = 100
RANDOM_TAGS = 25
PREFIXES = [
    "2001:db8::/32",
    "2001:db8:64::/48",
    "2001:db8:64::/64",
    "2001:db8:64:0:a800::/70",
    "2001:db8:64:0:a1b2::/80",
]

# --- Keys ----------------------------------------------------------------------------------------


def derive(label, vip):
    """The key of a label and a VIP."""
    return plain.derive(SECRET, label, endpoint_bytes(vip))


def endpoint_bytes(endpoint):
    """The bytes of an endpoint: an address of 4 or 16 bytes, and a port of 2."""
    ip, port = endpoint
    if isinstance(ip, ipaddress.IPv6Address):
        return ip.packed + port.to_bytes(2, "big")
    return ip.to_bytes(4, "big") + port.to_bytes(2, "big")


# --- The permutation -----------------------------------------------------------------------------

TAGS = 2**32 - 1
PORTS = 64512


def feistel(round_keys, bits, value, rounds):
    a_bits = bits // 2
    b_bits = bits - a_bits
    a, b = value >> b_bits, value % 2**b_bits
    for i in rounds:
        half = b if i % 2 == 0 else a
        block = bytes([i]) + bytes(7) + half.to_bytes(8, "big")
        output = int.from_bytes(aes128(round_keys, block), "big")
        if i % 2 == 0:
            a ^= output % 2**a_bits
        else:
            b ^= output % 2**b_bits
    return a << b_bits | b


def walk(round_keys, k, value, rounds):
    """Returns the result of cycle walking, and the number of steps."""
    size = TAGS * PORTS * 2**k
    for step in range(1, 65):
        value = feistel(round_keys, 48 + k, value, rounds)
        if value < size:
            return value, step
    raise ValueError("walk")


def to_mapped(round_keys, k, case, client):
    ip, port = client
    y, steps = walk(round_keys, k, case << 48 | ip << 16 | port, range(8))
    tag, y = 1 + y % TAGS, y // TAGS
    return {"tag": tag, "port": 1024 + y % PORTS, "index": y // PORTS}, steps


def to_client(round_keys, k, mapped):
    """The client, or None for a bad tag."""
    y = (mapped["index"] * PORTS + mapped["port"] - 1024) * TAGS + mapped["tag"] - 1
    x, _ = walk(round_keys, k, y, range(7, -1, -1))
    if x >= 2**49 or x % 2**16 == 0:
        return None
    return x >> 48, (x >> 16 & 0xFFFFFFFF, x % 2**16)


# --- The choice of targets ------------------------------------------------------------------------


def weight(round_keys, client, target):
    block = endpoint_bytes(client) + endpoint_bytes(target) + bytes(4)
    return int.from_bytes(aes128(round_keys, block)[:8], "big")


def choose(round_keys, client, targets):
    return min(targets, key=lambda target: (-weight(round_keys, client, target), target))


def weight6(key, client, target):
    """The weight of an IPv6 target for a client of either family."""
    message = endpoint_bytes(client) + endpoint_bytes(target)
    return int.from_bytes(plain.cmac(key, message)[:8], "big")


def choose6(key, client, targets):
    return min(targets, key=lambda target: (-weight6(key, client, target), target))


# --- The addresses of prefix mode ----------------------------------------------------------------


def prefix_address(round_keys, prefix, client_ip):
    """The address of a client, assembled from its four fields."""
    p = prefix.prefixlen
    c = min(32, 96 - p)
    encrypted = aes128(round_keys, client_ip.to_bytes(4, "big") + bytes(12))
    check = "".join(f"{byte:08b}" for byte in encrypted)[:c]
    bits = (
        f"{int(prefix.network_address):0128b}"[:p]
        + "0" * (96 - p - c)
        + f"{client_ip:032b}"
        + check
    )
    assert len(bits) == 128
    return ipaddress.IPv6Address(int(bits, 2))


def prefix_client(round_keys, prefix, address):
    """The client of an address, or None for an address without a client."""
    c = min(32, 96 - prefix.prefixlen)
    client_ip = int(address) >> c & 0xFFFFFFFF
    return client_ip if prefix_address(round_keys, prefix, client_ip) == address else None


# --- Packet IDs ----------------------------------------------------------------------------------


def packet_id(round_keys, client, target_port, seq, total_len):
    block = endpoint_bytes(client) + target_port.to_bytes(2, "big") + seq.to_bytes(4, "big")
    block += total_len.to_bytes(2, "big") + bytes(2)
    return int.from_bytes(aes128(round_keys, block)[:2], "big")


# --- The file ------------------------------------------------------------------------------------


def endpoint(text):
    ip, port = text.split(":")
    return int(ipaddress.IPv4Address(ip)), int(port)


def endpoint6(text):
    ip, port = text.rsplit(":", 1)
    return ipaddress.IPv6Address(ip.strip("[]")), int(port)


def text_of(pair):
    if isinstance(pair[0], ipaddress.IPv6Address):
        return f"[{pair[0]}]:{pair[1]}"
    return f"{ipaddress.IPv4Address(pair[0])}:{pair[1]}"


def clients(name):
    """Clients at the edges of the domain, and others."""
    edges = [(0, 1), (0, 65535), (2**32 - 1, 1), (2**32 - 1, 65535), endpoint("192.0.2.1:1024")]
    others = [(n % 2**32, 1 + (n >> 32) % 65535) for n in numbers(name, CLIENTS - len(edges))]
    return edges + others


def permutation_vectors(k):
    vip = endpoint(f"203.0.113.{k}:{440 + k}")
    key = derive("permutation", vip)
    round_keys = expand_key(key)
    mappings, walked = [], 0
    for client in clients(f"client {k}"):
        for case in (0, 1):
            mapped, steps = to_mapped(round_keys, k, case, client)
            assert to_client(round_keys, k, mapped) == (case, client)
            mappings.append({"case": case, "client": text_of(client), **mapped})
            walked += steps > 1
    tags = []
    for n in numbers(f"tag {k}", RANDOM_TAGS):
        mapped = {"tag": 1 + n % TAGS, "port": 1024 + (n >> 64) % PORTS, "index": (n >> 128) % 2**k}
        client = to_client(round_keys, k, mapped)
        found = None if client is None else {"case": client[0], "client": text_of(client[1])}
        tags.append({**mapped, "found": found})
    return {
        "pool_bits": k,
        "vip": text_of(vip),
        "key": key.hex(),
        "longer_walks": walked,
        "mappings": mappings,
        "random_tags": tags,
    }


def rendezvous_vectors(count):
    vip = endpoint("203.0.113.10:443")
    key = derive("rendezvous", vip)
    round_keys = expand_key(key)
    targets = [endpoint(f"198.51.100.{1 + i // 2}:{8443 + i % 2}") for i in range(count)]
    choices = []
    for client in clients(f"rendezvous {count}")[:40]:
        choices.append(
            {
                "client": text_of(client),
                "weights": [f"{weight(round_keys, client, target):016x}" for target in targets],
                "target": text_of(choose(round_keys, client, targets)),
            }
        )
    return {
        "vip": text_of(vip),
        "key": key.hex(),
        "targets": [text_of(target) for target in targets],
        "choices": choices,
    }


def clients6(name):
    """IPv6 clients at the edges, and others."""
    ip = ipaddress.IPv6Address
    edges = [(ip(0), 1), (ip(2**128 - 1), 65535), endpoint6("[2001:db8::1]:1024")]
    return edges + [(ip(n % 2**128), 1 + (n >> 128) % 65535) for n in numbers(name, 37)]


def rendezvous6_vectors(vip, count):
    """The choice of IPv6 targets for clients of the VIP's family."""
    is_ipv6 = isinstance(vip[0], ipaddress.IPv6Address)
    key = derive("rendezvous", vip)
    targets = [endpoint6(f"[2001:db8:5::{1 + i // 2}]:{8443 + i % 2}") for i in range(count)]
    name = f"rendezvous6 {text_of(vip)} {count}"
    choices = []
    for client in clients6(name) if is_ipv6 else clients(name)[:40]:
        choices.append(
            {
                "client": text_of(client),
                "weights": [f"{weight6(key, client, target):016x}" for target in targets],
                "target": text_of(choose6(key, client, targets)),
            }
        )
    return {
        "vip": text_of(vip),
        "key": key.hex(),
        "targets": [text_of(target) for target in targets],
        "choices": choices,
    }


def prefix_vectors(text):
    prefix = ipaddress.IPv6Network(text)
    vip = endpoint(f"203.0.113.{prefix.prefixlen}:443")
    key = derive("prefix check", vip)
    round_keys = expand_key(key)
    addresses, bad = [], []
    ips = sorted({ip for ip, _ in clients(f"prefix {text}")[:40]})
    for ip, n in zip(ips, numbers(f"bad address {text}", len(ips))):
        address = prefix_address(round_keys, prefix, ip)
        assert prefix_client(round_keys, prefix, address) == ip
        addresses.append({"client": str(ipaddress.IPv4Address(ip)), "address": str(address)})
        # One bit is flipped: of the prefix, the zeros, the client or the check.
        damaged = ipaddress.IPv6Address(int(address) ^ 1 << n % 128)
        assert prefix_client(round_keys, prefix, damaged) is None
        bad.append(str(damaged))
    return {
        "prefix": text,
        "vip": text_of(vip),
        "key": key.hex(),
        "addresses": addresses,
        "bad": bad,
    }


def packet_id_vectors():
    vip = endpoint("203.0.113.10:443")
    key = derive("packet id", vip)
    round_keys = expand_key(key)
    ids = []
    for client, n in zip(clients("packet id")[:20], numbers("segment", 20)):
        seq, target_port, total_len = n % 2**32, n >> 32 & 0xFFFF, 40 + (n >> 48) % 1221
        found = packet_id(round_keys, client, target_port, seq, total_len)
        ids.append(
            {
                "client": text_of(client),
                "target_port": target_port,
                "seq": seq,
                "total_len": total_len,
                "id": found,
            }
        )
    return {"vip": text_of(vip), "key": key.hex(), "ids": ids}


def make():
    permutations = [permutation_vectors(k) for k in POOL_BITS]
    assert sum(entry["longer_walks"] for entry in permutations) > 0
    return {
        "mapping": "relay-v1",
        "relay_secret": SECRET.hex(),
        "permutation": permutations,
        "rendezvous": [rendezvous_vectors(count) for count in (2, 5)],
        "rendezvous6": [
            rendezvous6_vectors(vip, count)
            for vip in (endpoint("203.0.113.10:443"), endpoint6("[2001:db8::10]:443"))
            for count in (2, 9)
        ],
        "prefix": [prefix_vectors(text) for text in PREFIXES],
        "packet_ids": packet_id_vectors(),
    }


if __name__ == "__main__":
    sys.exit(plain.write_or_check(OUTPUT, "Makes or checks the test vectors of relay mode.", make))
