#!/usr/bin/env python3
"""Test vectors of relay mode's mapping, computed by a second, plain implementation.

    relay-v1.py            writes relay-v1.json beside itself
    relay-v1.py --check    computes it again and compares; exit 1 if anything differs

It follows docs/protocol.md and shares nothing with the Rust code: AES-128 is written out below as
FIPS 197 has it, HKDF as RFC 5869 has it, and only Python's own hmac and hashlib are used. The
vectors freeze the mapping: POPs of different versions relay the same connections, so a change of
any value here breaks live connections in a rolling upgrade.
"""

import argparse
import hashlib
import hmac
import ipaddress
import json
import pathlib
import sys

OUTPUT = pathlib.Path(__file__).with_suffix(".json")

SECRET = bytes(range(0x20))
POOL_BITS = [2, 8, 9, 16]
CLIENTS = 100
RANDOM_TAGS = 25

# --- AES-128, FIPS 197 ---------------------------------------------------------------------------


def xtime(value):
    """Multiplies by x in GF(2^8) modulo x^8 + x^4 + x^3 + x + 1 (section 4.2.1)."""
    value <<= 1
    return (value ^ 0x11B) if value & 0x100 else value


def gf_multiply(a, b):
    product = 0
    while b:
        if b & 1:
            product ^= a
        a = xtime(a)
        b >>= 1
    return product


def make_sbox():
    """The inverse in GF(2^8), then the affine transformation (section 5.1.1)."""
    sbox = []
    for value in range(256):
        inverse = next((x for x in range(256) if gf_multiply(value, x) == 1), 0)
        result = 0x63
        for shift in range(5):
            result ^= ((inverse << shift) | (inverse >> (8 - shift))) & 0xFF
        sbox.append(result)
    return sbox


SBOX = make_sbox()


def expand_key(key):
    """Eleven round keys of 16 bytes (section 5.2)."""
    words = [list(key[i : i + 4]) for i in range(0, 16, 4)]
    rcon = 1
    for i in range(4, 44):
        word = list(words[i - 1])
        if i % 4 == 0:
            word = [SBOX[byte] for byte in word[1:] + word[:1]]
            word[0] ^= rcon
            rcon = xtime(rcon)
        words.append([a ^ b for a, b in zip(words[i - 4], word)])
    return [sum(words[i : i + 4], []) for i in range(0, 44, 4)]


def aes128(round_keys, block):
    """The cipher (section 5.1). Byte 4c + r of the state is row r of column c."""
    state = [a ^ b for a, b in zip(block, round_keys[0])]
    for round_number in range(1, 11):
        state = [SBOX[byte] for byte in state]
        state = [state[(4 * (c + r) + r) % 16] for c in range(4) for r in range(4)]
        if round_number < 10:
            mixed = []
            for c in range(0, 16, 4):
                column = state[c : c + 4]
                for r in range(4):
                    mixed.append(
                        xtime(column[r])
                        ^ xtime(column[(r + 1) % 4])
                        ^ column[(r + 1) % 4]
                        ^ column[(r + 2) % 4]
                        ^ column[(r + 3) % 4]
                    )
            state = mixed
        state = [a ^ b for a, b in zip(state, round_keys[round_number])]
    return bytes(state)


def check_aes():
    """FIPS 197, appendix C.1."""
    key = bytes.fromhex("000102030405060708090a0b0c0d0e0f")
    plain = bytes.fromhex("00112233445566778899aabbccddeeff")
    cipher = "69c4e0d86a7b0430d8cdb78070b4c55a"
    assert aes128(expand_key(key), plain).hex() == cipher


# --- Keys, RFC 5869 ------------------------------------------------------------------------------


def derive(label, vip):
    """HKDF-SHA256(secret, salt "anyrelay v1", info = label | 0 | VIP | port), 16 bytes."""
    info = label.encode() + b"\0" + endpoint_bytes(vip)
    prk = hmac.new(b"anyrelay v1", SECRET, hashlib.sha256).digest()
    return hmac.new(prk, info + b"\x01", hashlib.sha256).digest()[:16]


def endpoint_bytes(endpoint):
    ip, port = endpoint
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
    """Returns the number that the walk ends at, and its steps."""
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
    """The client, or nothing for a bad tag."""
    y = (mapped["index"] * PORTS + mapped["port"] - 1024) * TAGS + mapped["tag"] - 1
    x, _ = walk(round_keys, k, y, range(7, -1, -1))
    if x >= 2**49 or x % 2**16 == 0:
        return None
    return x >> 48, (x >> 16 & 0xFFFFFFFF, x % 2**16)


# --- The choice among targets --------------------------------------------------------------------


def weight(round_keys, client, target):
    block = endpoint_bytes(client) + endpoint_bytes(target) + bytes(4)
    return int.from_bytes(aes128(round_keys, block)[:8], "big")


def choose(round_keys, client, targets):
    return min(targets, key=lambda target: (-weight(round_keys, client, target), target))


# --- The file ------------------------------------------------------------------------------------


def endpoint(text):
    ip, port = text.split(":")
    return int(ipaddress.IPv4Address(ip)), int(port)


def text_of(pair):
    return f"{ipaddress.IPv4Address(pair[0])}:{pair[1]}"


def numbers(name, count):
    """Numbers that look random and are always the same."""
    for i in range(count):
        yield int.from_bytes(hashlib.sha256(f"{name} {i}".encode()).digest(), "big")


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


def make():
    check_aes()
    permutations = [permutation_vectors(k) for k in POOL_BITS]
    assert sum(entry["longer_walks"] for entry in permutations) > 0
    vectors = {
        "mapping": "relay-v1",
        "relay_secret": SECRET.hex(),
        "permutation": permutations,
        "rendezvous": [rendezvous_vectors(count) for count in (2, 5)],
    }
    return to_json(vectors) + "\n"


def to_json(value, indent=0):
    """JSON with one line for each innermost object, so that a change is seen in a diff."""
    pad = " " * indent
    if isinstance(value, dict) and any(isinstance(inner, list) and inner and isinstance(inner[0], dict) for inner in value.values()):
        items = [f"{pad} {json.dumps(key)}: {to_json(inner, indent + 1)}" for key, inner in value.items()]
        return "{\n" + ",\n".join(items) + f"\n{pad}}}"
    if isinstance(value, list) and value and isinstance(value[0], dict):
        items = [f"{pad} {to_json(inner, indent + 1)}" for inner in value]
        return "[\n" + ",\n".join(items) + f"\n{pad}]"
    return json.dumps(value)


def main():
    parser = argparse.ArgumentParser(description="Makes or checks the test vectors of relay mode.")
    parser.add_argument("--check", action="store_true", help="compare instead of writing")
    arguments = parser.parse_args()
    text = make()
    if not arguments.check:
        OUTPUT.write_text(text)
        print(f"wrote {OUTPUT.name}")
        return 0
    if OUTPUT.read_text() != text:
        print(f"{OUTPUT.name} is not what this script computes", file=sys.stderr)
        return 1
    print(f"{OUTPUT.name} is what this script computes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
