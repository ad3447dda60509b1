"""A bare loop of write and fdatasync: fdatasync.py FILE (at its end, then over 64 MiB written before)."""

import os
import sys
import time

COUNT = 4000


def run(name, is_written_before):
    file = os.open(name, os.O_RDWR | os.O_CREAT | os.O_TRUNC)
    if is_written_before:
        os.write(file, b"\0" * (64 << 20))
        os.fsync(file)
        os.lseek(file, 0, 0)
    times = []
    for _ in range(COUNT):
        begun = time.perf_counter()
        os.write(file, b"x" * 300)
        os.fdatasync(file)
        times.append(time.perf_counter() - begun)
    times.sort()
    print(
        "over what is there" if is_written_before else "at the end",
        f"{COUNT / sum(times):.0f}/s, p50 {times[COUNT // 2] * 1e6:.0f} us",
    )
    os.close(file)
    os.unlink(name)


run(sys.argv[1], False)
run(sys.argv[1], True)
