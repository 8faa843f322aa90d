#!/usr/bin/env python3
"""Shared by the generators of test vectors: plain cryptography and plain JSON.

    plain.py --check       compares with the examples of FIPS 197 and RFC 4493

AES-128 follows FIPS 197, CMAC RFC 4493, and HKDF RFC 5869. It shares nothing with the Rust code,
and uses Python's own hmac and hashlib alone.
"""

import argparse
import hashlib
import hmac
import json
import sys

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


# --- CMAC, RFC 4493 ------------------------------------------------------------------------------


def xor(a, b):
    return bytes(x ^ y for x, y in zip(a, b))


def cmac(key, message):
    round_keys = expand_key(key)

    def double(block):
        value = int.from_bytes(block, "big") << 1
        return (value ^ (1 << 128 | 0x87) if value >> 128 else value).to_bytes(16, "big")

    subkey1 = double(aes128(round_keys, bytes(16)))
    subkey2 = double(subkey1)
    blocks = [message[i : i + 16] for i in range(0, len(message), 16)] or [b""]
    last = blocks.pop()
    if len(last) == 16:
        last = xor(last, subkey1)
    else:
        last = xor((last + b"\x80").ljust(16, b"\0"), subkey2)
    state = bytes(16)
    for block in blocks + [last]:
        state = aes128(round_keys, xor(state, block))
    return state


# --- Keys, RFC 5869 ------------------------------------------------------------------------------


def derive(secret, label, fields):
    """HKDF-SHA256(secret, salt "anyrelay v2", info = label | 0 | fields), 16 bytes."""
    info = label.encode() + b"\0" + fields
    prk = hmac.new(b"anyrelay v2", secret, hashlib.sha256).digest()
    return hmac.new(prk, info + b"\x01", hashlib.sha256).digest()[:16]


# --- The file ------------------------------------------------------------------------------------


def numbers(name, count):
    """Pseudo-random numbers, always the same."""
    for i in range(count):
        yield int.from_bytes(hashlib.sha256(f"{name} {i}".encode()).digest(), "big")


def to_json(value, indent=0):
    """JSON with one line for each innermost object, for readable diffs."""
    pad = " " * indent
    if isinstance(value, dict) and any(
        isinstance(inner, list) and inner and isinstance(inner[0], dict) for inner in value.values()
    ):
        items = [
            f"{pad} {json.dumps(key)}: {to_json(inner, indent + 1)}" for key, inner in value.items()
        ]
        return "{\n" + ",\n".join(items) + f"\n{pad}}}"
    if isinstance(value, list) and value and isinstance(value[0], dict):
        items = [f"{pad} {to_json(inner, indent + 1)}" for inner in value]
        return "[\n" + ",\n".join(items) + f"\n{pad}]"
    return json.dumps(value)


def write_or_check(output, description, make):
    """The command line of a generator of vectors. `make` returns the contents of `output`."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--check", action="store_true", help="compare instead of writing")
    arguments = parser.parse_args()
    check_examples()
    text = to_json(make()) + "\n"
    if not arguments.check:
        output.write_text(text)
        print(f"wrote {output.name}")
        return 0
    if output.read_text() != text:
        print(f"{output.name} is not what this script computes", file=sys.stderr)
        return 1
    print(f"{output.name} is what this script computes")
    return 0


def check_examples():
    """The examples of the standards."""
    # FIPS 197, appendix C.1.
    key = bytes.fromhex("000102030405060708090a0b0c0d0e0f")
    plain = bytes.fromhex("00112233445566778899aabbccddeeff")
    assert aes128(expand_key(key), plain).hex() == "69c4e0d86a7b0430d8cdb78070b4c55a"
    # RFC 4493, section 4.
    key = bytes.fromhex("2b7e151628aed2a6abf7158809cf4f3c")
    message = bytes.fromhex(
        "6bc1bee22e409f96e93d7e117393172aae2d8a571e03ac9c9eb76fac45af8e5130c81c46a35ce411"
    )
    assert cmac(key, b"").hex() == "bb1d6929e95937287fa37d129b756746"
    assert cmac(key, message[:16]).hex() == "070a16b46b4d4144f79bdd9dd04a287c"
    assert cmac(key, message).hex() == "dfa66747de9ae63030ca32611497c827"


if __name__ == "__main__":
    # It writes no file, so all arguments mean `--check`.
    check_examples()
    print("the examples of the standards come out")
