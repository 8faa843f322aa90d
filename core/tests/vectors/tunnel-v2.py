#!/usr/bin/env python3
"""Test vectors of tunnels, computed by a second, plain implementation.

    tunnel-v2.py            writes tunnel-v2.json beside itself
    tunnel-v2.py --check    computes it again and compares; exit 1 on a difference

It follows docs/protocol-tunnel.md and shares nothing with the Rust code; plain.py beside it has the
cryptography. The vectors freeze the protocol: POPs and agents of different versions communicate, so
a change of any value here breaks tunnels in a rolling upgrade.
"""

import base64
import hashlib
import hmac
import ipaddress
import pathlib
import sys

sys.dont_write_bytecode = True
import plain
from plain import aes128, cmac, derive, expand_key, numbers, xor

OUTPUT = pathlib.Path(__file__).with_suffix(".json")

SEQUENCE = bytes(range(0x20, 0x40))
# The older epoch is odd, and the newer one has wrapped.
TOKENS = {255: bytes(range(0x40, 0x60)), 0: bytes(range(0x60, 0x80))}
TENANTS = {1: bytes(range(0x80, 0xA0)), 0xFFFE: bytes(range(0xA0, 0xC0))}
VIPS = {4: "203.0.113.20:443", 6: "[2001:db8::20]:443"}
POP = 5
MTU = 1400

# T, STRIDE, LAG, OFFSET.
CONSTANTS = (8000, 4096, 4, 16384)
TICK_MS, STRIDE, LAG, OFFSET = CONSTANTS

# --- Addresses -----------------------------------------------------------------------------------


def endpoint(text):
    ip, port = text.rsplit(":", 1)
    return ipaddress.ip_address(ip.strip("[]")), int(port)


def endpoint_bytes(text):
    ip, port = endpoint(text)
    return ip.packed + port.to_bytes(2, "big")


def family(text):
    return endpoint(text)[0].version


def agents(name, count):
    """Agents at the edges of the addresses, and others: pairs of one of each family."""
    yield "0.0.0.0:0", "[::]:0"
    yield "255.255.255.255:65535", "[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535"
    for number in numbers(name, count):
        port = number >> 128 & 0xFFFF
        ip4, ip6 = ipaddress.IPv4Address(number & 0xFFFFFFFF), ipaddress.IPv6Address(
            number % 2**128
        )
        yield f"{ip4}:{port}", f"[{ip6}]:{port}"


# --- Predicted numbers ---------------------------------------------------------------------------


def start(vip, agent):
    key = derive(SEQUENCE, "sequence", endpoint_bytes(vip))
    return int.from_bytes(cmac(key, endpoint_bytes(agent))[:4], "big")


def predicted(vip, agent, tick):
    return (start(vip, agent) + STRIDE * tick) % 2**32


# --- Tokens --------------------------------------------------------------------------------------


def token(agent, base_high, tenant, epoch, pop):
    vip = endpoint_bytes(VIPS[family(agent)])
    fields = (
        endpoint_bytes(agent)
        + base_high.to_bytes(2, "big")
        + tenant.to_bytes(2, "big")
        + bytes([epoch, pop])
    )
    secret = TOKENS[epoch]
    if family(agent) == 4:
        key = derive(secret, "token", vip)
        return aes128(expand_key(key), fields + bytes(4))
    check = cmac(derive(secret, "token mac", vip), fields)[:8]
    mask = expand_key(derive(secret, "token mask", vip))
    stream = b"".join(aes128(mask, check + block.to_bytes(8, "big")) for block in (0, 1))
    return check + xor(fields, stream)


def public_text(epoch, token):
    return base64.urlsafe_b64encode(bytes([epoch]) + token).decode().rstrip("=")


# --- Messages ------------------------------------------------------------------------------------


def agent_key(tenant, agent):
    return derive(TENANTS[tenant], "agent", agent.to_bytes(4, "big"))


VERSION = 2
RESERVED = bytes(16)


def with_mac(key, label, vip, message):
    mac = hmac.new(key, label + b"\0" + endpoint_bytes(vip) + message, hashlib.sha256).digest()
    return message + mac[:16]


def keepalive_len(version):
    return {4: 90, 6: 118}[version]


def request(vip, tenant, agent, nonce, last_tick, named):
    """The request to a VIP that names this tick and address; without an address, zeros."""
    version = family(vip)
    unknown = bytes({4: 6, 6: 18}[version])
    message = b"".join(
        [
            bytes([0x10, VERSION]),
            tenant.to_bytes(2, "big"),
            agent.to_bytes(4, "big"),
            nonce.to_bytes(8, "big"),
            last_tick.to_bytes(8, "big"),
            endpoint_bytes(named) if named else unknown,
            RESERVED,
        ]
    )
    padded = message.ljust(keepalive_len(version) - 16, b"\0")
    return with_mac(agent_key(tenant, agent), b"keepalive request", vip, padded)


def reply(address, tenant, agent, nonce, tick, base, epoch, named):
    """The reply of a POP in a tick to an agent with this address and base, which named the tick
    and the address in `named`."""
    version = family(address)
    low = base % 2**16
    off = low - 0x8000
    aligned = off % STRIDE == 0 and -8 <= off // STRIDE <= 7
    last_tick, last_address = named
    is_named = last_address == address and -12 <= last_tick - tick <= 3
    given = aligned and is_named
    sealed = (
        token(address, base >> 16, tenant, epoch, POP) if given else bytes({4: 16, 6: 32}[version])
    )
    around = {4: 20, 6: 40}[version] + 20 + 12 + 2 * len(sealed)
    message = b"".join(
        [
            bytes([0x21 if given else 0x20, VERSION]),
            nonce.to_bytes(8, "big"),
            tick.to_bytes(8, "big"),
            TICK_MS.to_bytes(4, "big"),
            STRIDE.to_bytes(4, "big"),
            LAG.to_bytes(2, "big"),
            OFFSET.to_bytes(2, "big"),
            (MTU - around).to_bytes(2, "big"),
            endpoint_bytes(address),
            low.to_bytes(2, "big"),
            bytes([epoch if given else 0, POP]),
            sealed,
            RESERVED,
        ]
    )
    return with_mac(agent_key(tenant, agent), b"keepalive reply", VIPS[version], message)


def data_header(kind, flags, offset, channel, session):
    first = kind << 4 | flags
    return bytes([first, offset // 64]) + channel.to_bytes(2, "big") + session.to_bytes(8, "big")


# --- The vectors ---------------------------------------------------------------------------------


def sequence_vectors():
    for version, vip in VIPS.items():
        entries = []
        for pair in agents("sequence", 6):
            agent = next(agent for agent in pair if family(agent) == version)
            for tick in (0, 1, 224_417_748, 2**40 + 12_345):
                number = predicted(vip, agent, tick)
                entries.append(
                    {"agent": agent, "start": start(vip, agent), "tick": tick, "number": number}
                )
        key = derive(SEQUENCE, "sequence", endpoint_bytes(vip))
        yield {"vip": vip, "key": key.hex(), "stride": STRIDE, "numbers": entries}


def token_vectors():
    for index, pair in enumerate(agents("token", 8)):
        for agent in pair:
            for epoch in TOKENS:
                base_high, tenant = (
                    (0xFFFF, 0) if index == 0 else (index * 7919 % 2**16, index * 31)
                )
                sealed = token(agent, base_high, tenant, epoch, index)
                yield {
                    "agent": agent,
                    "base_high": base_high,
                    "tenant": tenant,
                    "epoch": epoch,
                    "pop": index,
                    "token": sealed.hex(),
                    "text": public_text(epoch, sealed),
                }


# The newer epoch's first tick; the older one's end is far away.
NOT_BEFORE_TICK = 224_417_748


def keepalive_vectors():
    v4, v6 = "192.0.2.1:40000", "[2001:db8:1::7]:40002"
    late, change = NOT_BEFORE_TICK + 1000, NOT_BEFORE_TICK
    cases = [
        # agent, tenant, number, base, ticks that the POP is ahead, tick, ack of a reply,
        # what the agent names: ticks behind the POP's, and address
        (v4, 1, 7, 0x12348000, 0, change - 1, False, (0, v4)),
        (v4, 1, 7, 0x12348000, 0, change, True, (1, v4)),
        (v4, 1, 7, 0xFFFF8000, 3, late, True, (12, v4)),
        (v4, 0xFFFE, 2**32 - 1, 0x00008000, -3, late, False, (-3, v4)),
        (v4, 1, 7, 0x12348001, 0, change, False, (1, v4)),
        (v6, 1, 8, 0x12348000, 0, change - 1, True, (1, v6)),
        (v6, 1, 8, 0xABCD8000, -1, change, False, (2, v6)),
        (v6, 0xFFFE, 0, 0x12340800, 0, change, False, (1, v6)),
        # Nothing was named yet, another port, another address, and ticks out of range.
        (v4, 1, 7, 0x12348000, 0, change, False, None),
        (v6, 1, 8, 0x12348000, 0, change, False, None),
        (v4, 1, 7, 0x12348000, 0, change, True, (1, "192.0.2.1:40001")),
        (v6, 1, 8, 0x12348000, 0, change, True, (1, "[2001:db8:1::8]:40002")),
        (v4, 1, 7, 0x12348000, 0, change, True, (13, v4)),
        (v6, 1, 8, 0x12348000, 0, change, True, (-4, v6)),
    ]
    for index, (address, tenant, agent, base, ahead, tick, acks_reply, behind) in enumerate(cases):
        version = family(address)
        vip = VIPS[version]
        agent_tick = tick - ahead
        named = (tick - behind[0], behind[1]) if behind else (0, None)
        seq = (base + STRIDE * agent_tick + 1) % 2**32
        # The newest acknowledged reply arrived in the previous tick.
        ack = (
            predicted(vip, address, agent_tick - 1)
            + 1
            + (keepalive_len(version) if acks_reply else 0)
        )
        nonce = next(numbers(f"nonce {index}", 1)) % 2**64
        epoch = 0 if tick >= NOT_BEFORE_TICK else 255
        seen = (seq - 1 - STRIDE * tick) % 2**32
        yield {
            "agent": address,
            "key": agent_key(tenant, agent).hex(),
            "tenant": tenant,
            "number": agent,
            "unix_ms": tick * TICK_MS + 17 * index,
            "request": {
                "seq": seq,
                "ack": ack % 2**32,
                "payload": request(vip, tenant, agent, nonce, *named).hex(),
            },
            "reply": {
                "seq": (predicted(vip, address, tick) + 1) % 2**32,
                "ack": (seq + keepalive_len(version)) % 2**32,
                "payload": reply(address, tenant, agent, nonce, tick, seen, epoch, named).hex(),
            },
        }


def data_vectors():
    v4, v6 = "192.0.2.1:40000", "[2001:db8:1::7]:40002"
    other4, other6 = "198.51.100.77:1", "[2001:db8:2::1:9]:65535"
    cases = [
        # from, to, epochs of the tokens, ticks that the sender is off, offset, body
        (v4, other4, 255, 0, 0, 0, b"IPv4 to IPv4"),
        (v6, other6, 0, 0, 1, 64, b"IPv6 to IPv6"),
        (v4, other6, 0, 255, -3, 128, b"IPv4 to IPv6"),
        (v6, other4, 255, 255, 3, 16320 - 64, b"IPv6 to IPv4"),
        (v4, other4, 0, 0, 0, 16320, b""),
    ]
    tick, tenant = NOT_BEFORE_TICK + 5, 1
    for index, (sender, to, from_epoch, to_epoch, off, offset, body) in enumerate(cases):
        base, to_base = 0xFFF08000, (0x00018000 + 0x10000 * index)
        channel, session = 0xFF00 + index, next(numbers(f"session {index}", 1)) % 2**64
        own = token(sender, base >> 16, tenant, from_epoch, POP)
        destination = token(to, to_base >> 16, tenant, to_epoch, 6)
        from_flags = (4 if family(sender) == 6 else 0) | from_epoch % 2
        to_flags = (8 if family(to) == 6 else 0) | 2 * (to_epoch % 2)
        vip, to_vip = VIPS[family(sender)], VIPS[family(to)]
        up = (
            data_header(3, to_flags | from_flags, offset, channel, session)
            + destination
            + own
            + body
        )
        down = data_header(4, from_flags, offset, channel, session) + own + body
        yield {
            "unix_ms": tick * TICK_MS,
            "issued_by": POP,
            "body": body.hex(),
            "up": {
                "src": sender,
                "dst": vip,
                "seq": (base + STRIDE * (tick + off) + 1 + offset) % 2**32,
                "ack": (predicted(vip, sender, tick + off - LAG) + 1) % 2**32,
                "payload": up.hex(),
            },
            "down": {
                "src": to_vip,
                "dst": to,
                "seq": (predicted(to_vip, to, tick) + 1 + offset) % 2**32,
                "ack": ((to_base & 0xFFFF0000) + 0x6000 + STRIDE * (tick - LAG) + 1) % 2**32,
                "payload": down.hex(),
            },
        }


def make():
    return {
        "protocol": "tunnel-v2",
        "sequence_secret": SEQUENCE.hex(),
        "tenants": [{"id": tenant, "key": key.hex()} for tenant, key in TENANTS.items()],
        "epochs": [
            {"epoch": 255, "secret": TOKENS[255].hex(), "not_before_ms": 0},
            {"epoch": 0, "secret": TOKENS[0].hex(), "not_before_ms": NOT_BEFORE_TICK * TICK_MS},
        ],
        "vips": list(VIPS.values()),
        "constants": list(CONSTANTS),
        "tunnel_mtu": MTU,
        "pop": POP,
        "sequence": list(sequence_vectors()),
        "tokens": list(token_vectors()),
        "keepalives": list(keepalive_vectors()),
        "data": list(data_vectors()),
    }


if __name__ == "__main__":
    sys.exit(plain.write_or_check(OUTPUT, "Makes or checks the test vectors of tunnels.", make))
