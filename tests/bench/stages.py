#!/usr/bin/python3
"""What the stages of the fast way cost: stages.py BENCH CAPTURES [WORK [SET]]

BENCH is the bench's program, CAPTURES the folder of captures.py; WORK is min_512 and SET avx2 if
not said. Valgrind counts the instructions of the core alone over the capture, and if `perf` is
installed it samples the same run for the time. Each address counts for the file of the stage that
its code was inlined into (addr2line).
"""

import collections
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

# What a function of these files is of, if it is not inlined into one of the fast way's.
FILES = [
    ("core/src/pop/fast/columns.rs", "gather"),
    ("core/src/pop/fast/sort.rs", "sort"),
    ("core/src/pop/fast/look_up.rs", "look up"),
    ("core/src/pop/fast/ways.rs", "look up"),
    ("core/src/pop/fast/refuse.rs", "look up"),
    ("core/src/pop/fast/map.rs", "map"),
    ("core/src/pop/fast/compute.rs", "compute"),
    ("core/src/pop/fast/clients.rs", "check clients"),
    ("core/src/pop/fast/", "finish"),
    ("core/src/relay/pool/", "map"),
    ("core/src/relay/targets/", "map"),
    ("vector/src/aes128/", "map"),
    ("vector/src/bytes.rs", "look up"),
    ("core/src/snapshot/", "look up"),
    ("tests/bench/", "the bench itself"),
    ("tests/kit/", "the bench itself"),
    ("core/src/", "the rest of the core"),
]
ORDER = list(dict.fromkeys(stage for _, stage in FILES)) + ["other"]
PASSES = (16, 48)
LONG, HERTZ = 20_000, 4999


def run(command):
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"stages: {' '.join(command)} failed: {done.stderr or done.stdout}")
    return done.stdout


def stages_of(program, addresses):
    """The stage of each address."""
    said = subprocess.run(
        ["addr2line", "-a", "-i", "-e", program],
        input="\n".join(map(hex, addresses)),
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    stages, files, address = {}, [], None
    for line in [*said.splitlines(), "0x0"]:
        if not line.startswith("0x"):
            files.append(line)
            continue
        if files:
            stages[address] = stage_of(files)
        address, files = int(line, 16), []
    return stages


def by_stage(program, counts):
    """Counts at addresses, added up for each stage."""
    stages = stages_of(program, [address for address in counts if address])
    sums = collections.Counter()
    for address, count in counts.items():
        sums[stages.get(address, "other")] += count
    return sums


def stage_of(files):
    """From the innermost file to that of the function."""
    fast = [file for file in files if "core/src/pop/fast/" in file]
    inlined_into = [file for file in fast if "/mod.rs" not in file]
    for file in inlined_into[-1:] or reversed(files):
        for part, stage in FILES:
            if part in file:
                return stage
    return "other"


def spin(bench, captures, work, instructions, passes):
    command = [bench, "spin", "--captures", captures, "--work", work, "--isa", instructions]
    return [*command, "--handler", "pop", "--passes", str(passes)]


def instructions(command, program):
    """Instructions at each address of the program."""
    with tempfile.TemporaryDirectory() as folder:
        out = pathlib.Path(folder) / "out"
        run(
            ["valgrind", "--tool=callgrind", "--dump-instr=yes", f"--callgrind-out-file={out}"]
            + command
        )
        counts, names, here, address, of_call = collections.Counter(), {}, False, 0, False
        for line in out.read_text().splitlines():
            if match := re.match(r"(c?)ob=\((\d+)\)(?: (.*))?$", line):
                names.setdefault(match[2], match[3])
                here = here if match[1] else names[match[2]] == program
            elif line.startswith("calls="):
                of_call = True
            elif re.match(r"0x|[+*-]", line):
                fields = line.split()
                if fields[0].startswith("0x"):
                    address = int(fields[0], 16)
                elif fields[0] != "*":
                    address += int(fields[0], 0)
                # The line behind a call has the cost of what was called.
                if here and not of_call:
                    counts[address] += int(fields[-1])
                of_call = False
    return counts


def samples(command, program):
    """Samples at each address of the program, and those elsewhere under None."""
    with tempfile.TemporaryDirectory() as folder:
        data = f"{folder}/data"
        record = ["perf", "record", "-q", "-e", "cpu-clock", "-F", str(HERTZ), "-o", data]
        run(record + command)
        mapped = run(["perf", "script", "-i", data, "--show-mmap-events"])
        # Where its code is in memory and in the file, and where the file says that it is to be.
        event = r"\[0x(\w+)\(0x\w+\) @ (?:0x)?(\w+) .*r-xp " + re.escape(program)
        where = re.search(event, mapped)
        code = re.search(r"LOAD +0x(\w+) 0x(\w+) .* R E ", run(["readelf", "-lW", program]))
        base = int(where[1], 16) - int(where[2], 16) + int(code[1], 16) - int(code[2], 16)
        counts = collections.Counter()
        for line in run(["perf", "script", "-i", data, "-F", "ip,dso"]).splitlines():
            ip, dso = line.split(maxsplit=1)
            counts[int(ip, 16) - base if program in dso else None] += 1
    return counts


def main():
    if not 3 <= len(sys.argv) <= 5:
        sys.exit(__doc__)
    bench, captures, *rest = sys.argv[1:]
    work, chosen = [*rest, *["min_512", "avx2"][len(rest) :]]
    program = str(pathlib.Path(bench).resolve())
    commands = [spin(program, captures, work, chosen, passes) for passes in PASSES]
    frames = [int(run(command).split()[1]) for command in commands]
    few, many = [instructions(command, program) for command in commands]
    many.subtract(few)
    counted = by_stage(program, many)
    print(f"{work}, {chosen}, per packet:")
    times, ns_each = None, 1e9 / HERTZ / (frames[0] / PASSES[0] * LONG)
    if shutil.which("perf"):
        times = by_stage(program, samples(spin(program, captures, work, chosen, LONG), program))
    print(f"{'stage':<20} {'instructions':>12} {'ns':>8}")
    for stage in ORDER:
        count = counted[stage] / (frames[1] - frames[0])
        ns = f"{times[stage] * ns_each:.1f}" if times else "-"
        print(f"{stage:<20} {count:12.0f} {ns:>8}")


if __name__ == "__main__":
    main()
