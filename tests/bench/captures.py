#!/usr/bin/python3
"""Generates the captures of scripts/bench, and the expected output.

    captures.py FOLDER            writes NAME.in.pcap and NAME.out.pcap of each capture
    captures.py FOLDER --freeze   also writes their digests to captures.sha256 beside this script

The captures of pool mode have 512, 65,536 or 1,000,000 packets of as many connections: half of them
to the target, with and without timestamps in equal parts, and half to the client. `min` has no
data, `1514` as much as fits. The others are those of works.py. Nothing is generated if the files
are there already, with the frozen digests.

The expected output does not come from the POP's code: it is computed here by docs/protocol.md, with
checksums in full, and compared with the results of the fixtures' spec.py and scapy for a part of
the packets. Exit 1 when a capture differs from the frozen one. Needs Debian's python3-scapy and
python3-numpy.
"""

import argparse
import hashlib
import pathlib
import struct
import sys

import numpy as np

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "fixtures"))

from packets import ethernet, timestamps  # noqa: E402
from spec import VECTORS, Service  # noqa: E402

import works  # noqa: E402
from works import (  # noqa: E402
    GATEWAY_MAC,
    ID,
    IN_MAC,
    NEIGHBOUR_MAC,
    OUT_MAC,
    TTL_IN,
    payload,
    segment,
)

# Captures of pool mode: their names, packets, and bytes of data. With 1448 bytes a frame has 1514
# wherever it has the timestamps.
POOL = [
    ("min_512", 512, 0),
    ("min_65536", 65_536, 0),
    ("min_1000000", 1_000_000, 0),
    ("1514_512", 512, 1448),
    ("1514_65536", 65_536, 1448),
]
SERVICE = Service("web", "203.0.113.10:443", ["198.51.100.10:8443"], pool="100.64.8.0/24", mss=1448)

VIP = np.frombuffer(VECTORS.endpoint_bytes(SERVICE.at), dtype=np.uint8)

# --- The mapping, for all clients at once --------------------------------------------------------

SBOX = np.array(VECTORS.plain.SBOX, dtype=np.uint8)
XTIME = np.array([VECTORS.plain.xtime(value) for value in range(256)], dtype=np.uint8)
SHIFT_ROWS = [(4 * (c + r) + r) % 16 for c in range(4) for r in range(4)]


def aes128(round_keys, blocks):
    """FIPS 197 over rows of 16 bytes."""
    keys = [np.array(key, dtype=np.uint8) for key in round_keys]
    state = blocks ^ keys[0]
    for number in range(1, 11):
        state = SBOX[state][:, SHIFT_ROWS]
        if number < 10:
            columns = state.reshape(-1, 4, 4)
            after = np.roll(columns, -1, axis=2)
            mixed = XTIME[columns] ^ XTIME[after] ^ after
            mixed ^= np.roll(columns, -2, axis=2) ^ np.roll(columns, -3, axis=2)
            state = mixed.reshape(-1, 16)
        state = state ^ keys[number]
    return state


def feistel(bits, values):
    a_bits = bits // 2
    b_bits = bits - a_bits
    a, b = values >> np.uint64(b_bits), values & np.uint64(2**b_bits - 1)
    for i in range(8):
        half, width = (b, a_bits) if i % 2 == 0 else (a, b_bits)
        blocks = np.zeros((len(values), 16), dtype=np.uint8)
        blocks[:, 0] = i
        blocks[:, 2:8] = VIP
        blocks[:, 8:] = half.astype(">u8").view(np.uint8).reshape(-1, 8)
        encrypted = aes128(VECTORS.PERMUTATION, blocks)
        low = np.ascontiguousarray(encrypted[:, 8:]).view(">u8").reshape(-1)
        low = low.astype(np.uint64) & np.uint64(2**width - 1)
        a, b = (a ^ low, b) if i % 2 == 0 else (a, b ^ low)
    return a << np.uint64(b_bits) | b


def mapped(ips, ports):
    """Egress address and port of each client, and the TSval of its segments."""
    first, length = SERVICE.pool.split("/")
    bits = 32 - int(length)
    y = feistel(46 + bits, ips << np.uint64(16) | ports)
    index, r = y & np.uint64(2**bits - 1), y >> np.uint64(bits)
    port, tag = r % np.uint64(64512) + np.uint64(1024), r // np.uint64(64512) + np.uint64(1)
    first = VECTORS.endpoint(first + ":0")[0]
    return index + np.uint64(first), port, tag << np.uint64(1) | np.uint64(1)


# --- Frames, a matrix of bytes for each kind -----------------------------------------------------


def clients(numbers):
    """Clients, each with another address."""
    ips = np.uint64(0xC6120000) + numbers * np.uint64(7919) % np.uint64(131072)
    return ips, np.uint64(1024) + numbers * np.uint64(40503) % np.uint64(64512)


def column(values, width):
    """Numbers as `width` big-endian bytes each."""
    return np.ascontiguousarray(values.astype(">u8").view(np.uint8).reshape(-1, 8)[:, 8 - width :])


def constant(numbers, value):
    return np.full(len(numbers), value, dtype=np.uint64)


def checksums(data):
    """RFC 1071 over each row."""
    if data.shape[1] % 2:
        data = np.hstack([data, np.zeros((len(data), 1), dtype=np.uint8)])
    total = np.ascontiguousarray(data).view(">u2").astype(np.uint64).sum(axis=1)
    for _ in range(3):
        total = (total & np.uint64(0xFFFF)) + (total >> np.uint64(16))
    return column(np.uint64(0xFFFF) - total, 2)


def frames(numbers, macs, ends, stamps, ttl, data_len, pad):
    """Frames with the fields of `segment`, and these addresses and timestamps."""
    (src, sport), (dst, dport) = ends
    options = (
        [] if stamps is None else [np.tile(np.array([1, 1, 8, 10], np.uint8), (len(numbers), 1))]
    )
    options += [] if stamps is None else [column(value, 4) for value in stamps]
    header_len = 20 + sum(part.shape[1] for part in options)
    head = [
        column(sport, 2),
        column(dport, 2),
        column(sequence(numbers), 4),
        column(constant(numbers, 2), 4),
    ]
    flags = (header_len // 4) << 12 | (0x18 if data_len else 0x10)
    head += [column(constant(numbers, flags), 2), column(constant(numbers, 502), 2)]
    data = np.tile(np.frombuffer(payload(data_len), np.uint8), (len(numbers), 1))
    rest = [np.zeros((len(numbers), 2), np.uint8), *options, data]
    total = 20 + header_len + data_len
    pseudo = [column(src, 4), column(dst, 4), column(constant(numbers, 6), 2)]
    pseudo += [column(constant(numbers, total - 20), 2)]
    no_sum = np.zeros((len(numbers), 2), np.uint8)
    tcp_sum = checksums(np.hstack([*pseudo, *head, no_sum, *rest]))
    ip = [
        column(constant(numbers, value), 2) for value in (0x4500, total, ID, 0x4000, ttl << 8 | 6)
    ]
    ip_sum = checksums(np.hstack([*ip, column(src, 4), column(dst, 4)]))
    link = bytes.fromhex((macs[0] + macs[1]).replace(":", "")) + b"\x08\x00"
    link = np.tile(np.frombuffer(link, np.uint8), (len(numbers), 1))
    whole = np.hstack([link, *ip, ip_sum, column(src, 4), column(dst, 4), *head, tcp_sum, *rest])
    missing = max(0, 60 - whole.shape[1]) if pad else 0
    return np.hstack([whole, np.zeros((len(numbers), missing), np.uint8)])


def sequence(numbers):
    return numbers * np.uint64(65537)


def make_kind(kind, numbers, data_len):
    """Input and output frames of one kind: 0 up, 1 up without timestamps, 2 and 3 down."""
    ips, ports = clients(numbers)
    egress_ip, egress_port, tsval = mapped(ips, ports)
    fixed = lambda text: tuple(constant(numbers, part) for part in VECTORS.endpoint(text))
    client, egress = (ips, ports), (egress_ip, egress_port)
    vip, target = fixed(SERVICE.vip), fixed(SERVICE.targets[0])
    value, echo, zero = numbers + np.uint64(1), numbers + np.uint64(70), constant(numbers, 0)
    if kind < 2:
        ends_in, ends_out = (client, vip), (egress, target)
        bare = kind == 1
        stamps_in, stamps_out = (
            (None, (tsval, zero)) if bare else ((value, echo), (tsval, echo))
        )
    else:
        ends_in, ends_out = (target, egress), (vip, client)
        stamps_in, stamps_out = (value, tsval), (value, zero)
    macs_in, macs_out = (IN_MAC, NEIGHBOUR_MAC), (GATEWAY_MAC, OUT_MAC)
    rows_in = frames(numbers, macs_in, ends_in, stamps_in, TTL_IN, data_len, pad=True)
    rows_out = frames(numbers, macs_out, ends_out, stamps_out, TTL_IN - 1, data_len, pad=False)
    return rows_in, rows_out


def compare_with_scapy(kind, number, data_len, frame_in, frame_out):
    ip, port = (int(part[0]) for part in clients(np.array([number])))
    client = VECTORS.text_of((ip, port))
    stamps = timestamps(int(number) + 1, int(number) + 70)
    sent = segment(number, data_len, stamps if kind != 1 else [])
    if kind < 2:
        came, left = sent.between(client, SERVICE.vip, TTL_IN), SERVICE.up(client, sent, TTL_IN)
    else:
        came = SERVICE.from_target(client, sent, TTL_IN)
        left = SERVICE.down(client, sent, TTL_IN)
    assert frame_in == ethernet(NEIGHBOUR_MAC, IN_MAC, came), (kind, number)
    assert frame_out == ethernet(OUT_MAC, GATEWAY_MAC, left, pad=False), (kind, number)


def make(count, data_len):
    """All input and output frames, in order."""
    packets = np.arange(count, dtype=np.uint64)
    came, left = [None] * count, [None] * count
    for kind in range(4):
        numbers = packets[kind::4]
        for part in np.array_split(numbers, max(1, len(numbers) // 32_768)):
            rows_in, rows_out = make_kind(kind, part, data_len)
            for number, row_in, row_out in zip(part, rows_in, rows_out):
                came[number], left[number] = row_in.tobytes(), row_out.tobytes()
        for number in numbers[:: len(numbers) // 32]:
            compare_with_scapy(kind, number, data_len, came[number], left[number])
    return came, left


def pcap(packets):
    parts = [struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 262144, 1)]
    for number, packet in enumerate(packets):
        parts += [struct.pack("<IIII", 1_700_000_000, number, len(packet), len(packet)), packet]
    return b"".join(parts)


def captures():
    """The name and the frames of each file."""
    for name, count, data_len in POOL:
        came, left = make(count, data_len)
        yield f"{name}.in.pcap", came
        yield f"{name}.out.pcap", left
    for name in works.SERVICES:
        came, left = works.make(name)
        yield f"{name}.in.pcap", came
        yield f"{name}.out.pcap", left


def are_there(folder, frozen):
    """Whether the folder has all files with the digests of the text `frozen`."""
    for line in frozen.splitlines():
        digest, file = line.split()
        path = folder / file
        if not path.is_file():
            return False
        with path.open("rb") as contents:
            if hashlib.file_digest(contents, "sha256").hexdigest() != digest:
                return False
    return bool(frozen)


def main():
    parser = argparse.ArgumentParser(description="Makes the captures of scripts/bench.")
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--freeze", action="store_true", help="write their digests")
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    frozen = HERE / "captures.sha256"
    if not arguments.freeze and are_there(arguments.folder, frozen.read_text()):
        return 0
    digests = ""
    for file, packets in captures():
        contents = pcap(packets)
        (arguments.folder / file).write_bytes(contents)
        digests += f"{hashlib.sha256(contents).hexdigest()}  {file}\n"
    if arguments.freeze:
        frozen.write_text(digests)
    elif frozen.read_text() != digests:
        print(f"the captures are not those of {frozen.name}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
