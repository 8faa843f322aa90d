"""The mapping of pool mode over IPv6 (docs/protocol.md, section 4), for relay-v2.py."""

import ipaddress

from plain import aes128, expand_key, numbers
from shared import CLIENTS, PORTS, RANDOM_TAGS, TAGS, clients6, derive, endpoint6, text_of

POOLS = ["fd00::/8", "fd40::/12", "3f80::/9", "fda0::/16", "fd12:3450::/28"]
PERMUTATION6 = expand_key(derive("permutation ipv6"))


def tweak6(vip):
    return "".join(f"{byte:08b}" for byte in derive("permutation ipv6 tweak", vip))[:42]


def feistel6(vip, bits, value, rounds):
    """As feistel, with another block: it is assembled from strings of bits."""
    tweak = tweak6(vip)
    number = f"{value:0{bits}b}"
    halves = [number[: bits // 2], number[bits // 2 :]]
    for i in rounds:
        block = f"{i:03b}" + tweak + halves[(i + 1) % 2].rjust(83, "0")
        output = int.from_bytes(aes128(PERMUTATION6, int(block, 2).to_bytes(16, "big")), "big")
        width = len(halves[i % 2])
        halves[i % 2] = f"{int(halves[i % 2], 2) ^ output % 2**width:0{width}b}"
    return int(halves[0] + halves[1], 2)


def to_mapped6(vip, p, client):
    """What stands for a client; None for one that is not of 2000::/3."""
    ip, port = int(client[0]), client[1]
    if ip >> 125 != 1:
        return None
    h = 128 - p
    r, index = divmod(feistel6(vip, 46 + h, ip % 2**125 * 2**16 + port, range(8)), 2**h)
    return {"tag": 1 + r // PORTS, "port": 1024 + r % PORTS, "index": index}


def to_client6(vip, p, mapped):
    """The client, or None for a bad tag."""
    h = 128 - p
    r = (mapped["tag"] - 1) * PORTS + mapped["port"] - 1024
    if mapped["tag"] == 0 or r >= 2**46:
        return None
    x = feistel6(vip, 46 + h, r * 2**h + mapped["index"], range(7, -1, -1))
    if x >= 2**141 or x % 2**16 == 0:
        return None
    return ipaddress.IPv6Address(2**125 + x // 2**16), x % 2**16


def global_clients6(name):
    """Clients of 2000::/3 at the edges of the domain, and others."""
    ip = lambda low: ipaddress.IPv6Address(2**125 + low)
    edges = [(ip(0), 1), (ip(0), 65535), (ip(2**125 - 1), 1), (ip(2**125 - 1), 65535)]
    others = [(ip(n % 2**125), 1 + (n >> 128) % 65535) for n in numbers(name, CLIENTS - 4)]
    return edges + others


def of_pool(text):
    pool = ipaddress.IPv6Network(text)
    p, vip = pool.prefixlen, endpoint6(f"[2001:db8::{pool.prefixlen}]:443")
    egress = lambda index, port: text_of((pool.network_address + index, port))
    shown = lambda at: {"tag": at["tag"], "egress": egress(at["index"], at["port"])}
    mappings = []
    for client in global_clients6(f"client {text}"):
        mapped = to_mapped6(vip, p, client)
        assert to_client6(vip, p, mapped) == client
        mappings.append({"client": text_of(client), **shown(mapped)})
    tags = []
    for n in numbers(f"tag {text}", RANDOM_TAGS):
        index = (n >> 128) % 2 ** (128 - p)
        mapped = {"tag": 1 + n % TAGS, "port": 1024 + (n >> 64) % PORTS, "index": index}
        client = to_client6(vip, p, mapped)
        tags.append({**shown(mapped), "found": None if client is None else text_of(client)})
    others = [text_of(client) for client in clients6(f"other {text}") if int(client[0]) >> 125 != 1]
    # One bit of what stands for a client is flipped.
    for n, client in zip(numbers(f"flip {text}", 100), global_clients6(f"flipped {text}")[4:]):
        mapped = to_mapped6(vip, p, client)
        name, width = [("tag", 30), ("index", 128 - p)][n % 2]
        mapped[name] ^= 1 << (n >> 8) % width
        client = to_client6(vip, p, mapped)
        tags.append({**shown(mapped), "found": None if client is None else text_of(client)})
    return {
        "pool": text,
        "vip": text_of(vip),
        "tweak": f"{int(tweak6(vip), 2):011x}",
        "mappings": mappings,
        "tags": tags,
        "not_mapped": others,
    }


def vectors():
    return [of_pool(text) for text in POOLS]
