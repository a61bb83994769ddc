"""Run a command whose kernels are built with a sanitizer: ``address`` or ``thread``.

    python -m tests.emulator.sanitize address python -m pytest tests/gpu -m kernel

The sanitizer's libraries are loaded into the command's process before anything else, and its
addresses are not randomised: ThreadSanitizer's map of the memory is fixed.
"""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys

from .host import SANITIZERS, compiler

ADDR_NO_RANDOMIZE = 0x0040000
OPTIONS = {
    "ASAN_OPTIONS": "halt_on_error=0:detect_leaks=0:detect_odr_violation=0:"
    "verify_asan_link_order=0:suppress_equal_pcs=0",
    "UBSAN_OPTIONS": "print_stacktrace=0",
    "TSAN_OPTIONS": "exitcode=0:history_size=4:suppress_equal_stacks=0:suppress_equal_addresses=0",
}


def main() -> None:
    """Set the environment and become the command."""
    if len(sys.argv) < 3 or sys.argv[1] not in ("address", "thread"):
        sys.exit(__doc__)
    sanitizer, command = sys.argv[1], sys.argv[2:]
    libraries = []
    for name in SANITIZERS[sanitizer][1]:
        found = [compiler(), f"-print-file-name={name}"]
        path = subprocess.run(found, capture_output=True, text=True, check=True).stdout.strip()
        if path == name:
            sys.exit(f"{compiler()} has no {name}: install it (in Debian it comes with g++)")
        libraries.append(os.path.realpath(path))
    os.environ.update(OPTIONS)
    os.environ["LD_PRELOAD"] = " ".join(libraries)
    os.environ["EMULATOR_SANITIZER"] = sanitizer
    ctypes.CDLL(None).personality(ADDR_NO_RANDOMIZE)
    os.execvp(command[0], command)


if __name__ == "__main__":
    main()
