#!/usr/bin/env python3
"""Test vectors of relay mode's mapping, computed by a second, plain implementation.

    relay-v2.py            writes relay-v2.json beside itself
    relay-v2.py --check    computes it again and compares; exit 1 on a difference

It follows docs/protocol.md and shares nothing with the Rust code; plain.py beside it has the
cryptography, pool6.py the mapping of pool mode over IPv6. The vectors freeze the mapping: POPs of
different versions relay the same connections, so a change of any value here breaks established
connections in a rolling upgrade.
"""

import fractions
import ipaddress
import math
import pathlib
import sys

sys.dont_write_bytecode = True
import plain
import pool6
from plain import aes128, expand_key, numbers
from shared import (
    CLIENTS,
    PORTS,
    RANDOM_TAGS,
    SECRET,
    TAGS,
    any_endpoint,
    clients6,
    derive,
    endpoint,
    endpoint6,
    endpoint_bytes,
    mapped_bytes,
    text_of,
)

OUTPUT = pathlib.Path(__file__).with_suffix(".json")

POOL_BITS = [2, 8, 9, 16]
PREFIXES = [
    "2001:db8::/32",
    "2001:db8:64::/48",
    "2001:db8:64::/64",
    "2001:db8:64:0:a800::/70",
    "2001:db8:64:0:a1b2::/80",
]

# --- Keys ----------------------------------------------------------------------------------------


PERMUTATION = expand_key(derive("permutation"))
RENDEZVOUS = derive("rendezvous")
PREFIX_CHECK = expand_key(derive("prefix check"))

# --- The permutation -----------------------------------------------------------------------------


def feistel(vip, bits, value, rounds):
    a_bits = bits // 2
    b_bits = bits - a_bits
    a, b = value >> b_bits, value % 2**b_bits
    for i in rounds:
        half = b if i % 2 == 0 else a
        block = bytes([i, 0]) + endpoint_bytes(vip) + half.to_bytes(8, "big")
        output = int.from_bytes(aes128(PERMUTATION, block), "big")
        if i % 2 == 0:
            a ^= output % 2**a_bits
        else:
            b ^= output % 2**b_bits
    return a << b_bits | b


def to_mapped(vip, k, client):
    ip, port = client
    r, index = divmod(feistel(vip, 46 + k, ip * 2**16 + port, range(8)), 2**k)
    return {"tag": 1 + r // PORTS, "port": 1024 + r % PORTS, "index": index}


def to_client(vip, k, mapped):
    """The client, or None for a bad tag."""
    if mapped["tag"] == 0:
        return None
    r = (mapped["tag"] - 1) * PORTS + mapped["port"] - 1024
    if r >= 2**46:
        return None
    x = feistel(vip, 46 + k, r * 2**k + mapped["index"], range(7, -1, -1))
    if x >= 2**48 or x % 2**16 == 0:
        return None
    return x // 2**16, x % 2**16


# --- The choice of targets ------------------------------------------------------------------------


# 2**24 * log2(1 + i/64), rounded: exact, since no value is near a half.
LOG_TABLE = [round(2**24 * math.log2(1 + i / 64)) for i in range(65)]


def rendezvous_hash(vip, client, target):
    """h of a client and a target of a service, each of either family."""
    c = int.from_bytes(plain.cmac(RENDEZVOUS, b"\x00" + endpoint_bytes(client)), "big")
    message = b"\x01" + mapped_bytes(vip) + mapped_bytes(target)
    t = int.from_bytes(plain.cmac(RENDEZVOUS, message), "big")
    p = ((c ^ t) >> 64) * ((c ^ t) % 2**64)
    return (p >> 64) ^ p % 2**64


def log(h):
    """L: -log2 of h / 2^64 in units of 2^-24."""
    bits = f"{h:064b}"
    zeros = len(bits) - len(bits.lstrip("0"))
    behind = bits[zeros + 1 :] + "0" * 64
    i, f = int(behind[:6], 2), int(behind[6:22], 2)
    between = (LOG_TABLE[i + 1] - LOG_TABLE[i]) * f // 2**16
    return (zeros + 1) * 2**24 - LOG_TABLE[i] - between


def choose(vip, client, targets, weights=None):
    """The target of a client; without weights, all have the same."""
    weights = weights or [1] * len(targets)
    hashed = [
        (rendezvous_hash(vip, client, target), target, weight)
        for target, weight in zip(targets, weights)
    ]
    # L / weight as a fraction, which is exact.
    order = lambda entry: (fractions.Fraction(log(entry[0]), entry[2]), -entry[0], entry[1])
    return min(hashed, key=order)[1]


# --- The addresses of prefix mode ----------------------------------------------------------------


def prefix_address(vip, prefix, client_ip):
    """The address of a client, assembled from its four fields."""
    p = prefix.prefixlen
    c = min(32, 96 - p)
    encrypted = aes128(PREFIX_CHECK, client_ip.to_bytes(4, "big") + endpoint_bytes(vip) + bytes(6))
    check = "".join(f"{byte:08b}" for byte in encrypted)[:c]
    bits = (
        f"{int(prefix.network_address):0128b}"[:p]
        + "0" * (96 - p - c)
        + f"{client_ip:032b}"
        + check
    )
    assert len(bits) == 128
    return ipaddress.IPv6Address(int(bits, 2))


def prefix_client(vip, prefix, address):
    """The client of an address, or None for an address without a client."""
    c = min(32, 96 - prefix.prefixlen)
    client_ip = int(address) >> c & 0xFFFFFFFF
    return client_ip if prefix_address(vip, prefix, client_ip) == address else None


# --- Packet IDs ----------------------------------------------------------------------------------


def packet_id(round_keys, client, target_port, seq, total_len):
    block = endpoint_bytes(client) + target_port.to_bytes(2, "big") + seq.to_bytes(4, "big")
    block += total_len.to_bytes(2, "big") + bytes(2)
    return int.from_bytes(aes128(round_keys, block)[:2], "big")


# --- Hints ---------------------------------------------------------------------------------------


HINT_KINDS = {
    "rst": (0, ["seq", None, None]),
    "rst_ack": (1, ["seq", "ack", None]),
    "owner": (2, ["end", "ack", "tag"]),
}


def hint_bytes(hint):
    """The 68 bytes of one hint: three endpoints, three numbers, the kind, a zero byte."""
    data = b"".join(mapped_bytes(any_endpoint(hint[name])) for name in ("vip", "egress", "target"))
    kind, names = HINT_KINDS[hint["kind"]]
    data += b"".join((hint[name] if name else 0).to_bytes(4, "big") for name in names)
    return data + bytes([kind, 0])


def hint_datagram(key, time_ms, hints):
    data = bytes([2, len(hints), 0, 0]) + time_ms.to_bytes(8, "big")
    data += b"".join(hint_bytes(hint) for hint in hints)
    return data + plain.cmac(key, data)


# --- The file ------------------------------------------------------------------------------------


def clients(name):
    """Clients at the edges of the domain, and others."""
    edges = [(0, 1), (0, 65535), (2**32 - 1, 1), (2**32 - 1, 65535), endpoint("192.0.2.1:1024")]
    others = [(n % 2**32, 1 + (n >> 32) % 65535) for n in numbers(name, CLIENTS - len(edges))]
    return edges + others


def permutation_vectors(k):
    vip = endpoint(f"203.0.113.{k}:{440 + k}")
    mappings = []
    for client in clients(f"client {k}"):
        mapped = to_mapped(vip, k, client)
        assert to_client(vip, k, mapped) == client
        mappings.append({"client": text_of(client), **mapped})
    tags = []
    for n in numbers(f"tag {k}", RANDOM_TAGS):
        # Most are below the highest tag; the others have no place.
        mapped = {"tag": 1 + n % TAGS, "port": 1024 + (n >> 64) % PORTS, "index": (n >> 128) % 2**k}
        client = to_client(vip, k, mapped)
        tags.append({**mapped, "found": None if client is None else text_of(client)})
    return {
        "pool_bits": k,
        "vip": text_of(vip),
        "mappings": mappings,
        "random_tags": tags,
    }


def rendezvous_vectors(vip, targets, weights):
    """The choice of targets for clients of the VIP's family."""
    is_ipv6 = isinstance(vip[0], ipaddress.IPv6Address)
    name = f"rendezvous {text_of(vip)} {len(targets)}"
    choices = []
    for client in clients6(name) if is_ipv6 else clients(name)[:40]:
        hashes = [rendezvous_hash(vip, client, target) for target in targets]
        choices.append(
            {
                "client": text_of(client),
                "hashes": [f"{h:016x}" for h in hashes],
                "logs": [log(h) for h in hashes],
                "target": text_of(choose(vip, client, targets)),
                "weighted": text_of(choose(vip, client, targets, weights)),
            }
        )
    return {
        "vip": text_of(vip),
        "targets": [text_of(target) for target in targets],
        "weights": weights,
        "choices": choices,
    }


def rendezvous_services():
    """Services of all families, with few and many targets."""
    vip4, vip6 = endpoint("203.0.113.10:443"), endpoint6("[2001:db8::10]:443")
    targets4 = [endpoint(f"198.51.100.{1 + i // 2}:{8443 + i % 2}") for i in range(9)]
    targets6 = [endpoint6(f"[2001:db8:5::{1 + i // 2}]:{8443 + i % 2}") for i in range(9)]
    weights = [1, 3, 100, 65535, 7, 1, 2, 50, 9]
    return [
        rendezvous_vectors(vip, targets[:count], weights[:count])
        for vip, targets in ((vip4, targets4), (vip4, targets6), (vip6, targets6))
        for count in (2, 5, 9)
    ]


def log_inputs():
    """Hashes at the edges of the logarithm's cases, and others of every size."""
    edges = [0, 1, 2, 3, 2**62, 2**63 - 1, 2**63, 2**64 - 1, 2**64 - 2**41]
    return edges + [n % 2**64 >> n % 67 % 64 for n in numbers("log", 60)]


def prefix_vectors(text):
    prefix = ipaddress.IPv6Network(text)
    vip = endpoint(f"203.0.113.{prefix.prefixlen}:443")
    addresses, bad = [], []
    ips = sorted({ip for ip, _ in clients(f"prefix {text}")[:40]})
    for ip, n in zip(ips, numbers(f"bad address {text}", len(ips))):
        address = prefix_address(vip, prefix, ip)
        assert prefix_client(vip, prefix, address) == ip
        addresses.append({"client": str(ipaddress.IPv4Address(ip)), "address": str(address)})
        # One bit is flipped: of the prefix, the zeros, the client or the check.
        damaged = ipaddress.IPv6Address(int(address) ^ 1 << n % 128)
        assert prefix_client(vip, prefix, damaged) is None
        bad.append(str(damaged))
    return {
        "prefix": text,
        "vip": text_of(vip),
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


def hint_vectors():
    key = plain.derive(SECRET, "hints", b"")
    datagrams = []
    for count in (0, 1, 3, 17):
        hints = []
        for n in numbers(f"hints {count}", count):
            high = 0x20 << 120 if n % 5 == 0 else 0
            family = ipaddress.IPv6Address if high else ipaddress.IPv4Address
            ip = lambda shift: family(high | (n >> shift) % 2**32)
            at = lambda shift: text_of((ip(shift), 1 + (n >> 32 >> shift) % 65535))
            kind = ("rst", "rst_ack", "owner")[n % 3]
            hint = {"kind": kind, "vip": at(0), "egress": at(7), "target": at(19)}
            for place, name in enumerate(HINT_KINDS[kind][1]):
                if name:
                    hint[name] = (n >> 40 + 24 * place) % (2**31 if name == "tag" else 2**32)
            hints.append(hint)
        time_ms = 1_800_000_000_000 + count
        datagram = hint_datagram(key, time_ms, hints).hex()
        datagrams.append({"time_ms": time_ms, "hints": hints, "datagram": datagram})
    return {"key": key.hex(), "datagrams": datagrams}


def make():
    return {
        "mapping": "relay-v2",
        "relay_secret": SECRET.hex(),
        "permutation_key": derive("permutation").hex(),
        "rendezvous_key": RENDEZVOUS.hex(),
        "prefix_check_key": derive("prefix check").hex(),
        "permutation": [permutation_vectors(k) for k in POOL_BITS],
        "permutation6_key": derive("permutation ipv6").hex(),
        "permutation6": pool6.vectors(),
        "log_table": LOG_TABLE,
        "logs": [{"hash": f"{h:016x}", "log": log(h)} for h in log_inputs()],
        "rendezvous": rendezvous_services(),
        "prefix": [prefix_vectors(text) for text in PREFIXES],
        "packet_ids": packet_id_vectors(),
        "hints": hint_vectors(),
    }


if __name__ == "__main__":
    sys.exit(plain.write_or_check(OUTPUT, "Makes or checks the test vectors of relay mode.", make))
