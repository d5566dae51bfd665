"""The table of the fuzz test, or one of its inputs again: `python -m tests.fuzz --help`."""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from tests.fuzz.fuzzing import fuzz
from tests.fuzz.targets import NAMES, build


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("parsers", nargs="*", metavar="PARSER", help=f"of {', '.join(NAMES)} (default: all)")
    parser.add_argument("--count", type=int, default=10_000, help="inputs a parser (default: 10000)")
    parser.add_argument("--seed", type=int, default=0, help="of the inputs (default: 0)")
    parser.add_argument("--only", type=int, metavar="NUMBER", help="parse this input alone, unguarded")
    parser.add_argument("--file", type=Path, help="parse the input that was kept in this file, likewise")
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="fuzz-"))
    for name in options.parsers or NAMES:
        target = build(name, folder)
        if options.only is not None or options.file is not None:
            target.parse(
                options.file.read_bytes() if options.file else target.input(options.seed, options.only)
            )
            print(f"{name}: accepted")
        else:
            print(fuzz(target, options.count, options.seed, folder), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
