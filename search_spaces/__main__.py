"""Write what is generated from the built-in spaces: NNI's search-space JSON of each size, and all costs.

With --space, print the search-space JSON of one space, such as a trunk of your own, for nnictl.
"""

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from search_spaces import FIXED, SEARCHED, SHIPPED_RESOLUTION, SpaceError, search_space_json


def generated() -> dict[str, str]:
    """File name to text: tiny.json, small.json, …, and the cost tables in costs_224.json."""
    from search_spaces.profiling import profile

    files = {f"{space}.json": _format(search_space_json(space)) for space in SEARCHED}
    # The size is stored with its costs, so that a reader can tell if a table is for another one.
    costs = {
        space: {"size": asdict(SEARCHED[space]), **profile(space, SHIPPED_RESOLUTION)} for space in SEARCHED
    }
    costs |= {space: profile(space, SHIPPED_RESOLUTION) for space in FIXED}
    files[f"costs_{SHIPPED_RESOLUTION}.json"] = _format(costs)
    return files


def main(arguments: list[str] | None = None) -> int:
    """Write the files; with `--check` name those that are out of step, and return 1 if there are any."""
    parser = argparse.ArgumentParser(prog="python -m search_spaces", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if a file is out of step")
    parser.add_argument(
        "--folder",
        type=Path,
        default=Path(__file__).parent,
        help="where the files are (default: the package)",
    )
    parser.add_argument("--space", metavar="NAME", help="print this space's JSON: a size, or module:factory")
    options = parser.parse_args(arguments)
    if options.space is not None:
        try:
            print(_format(search_space_json(options.space)), end="")
        except SpaceError as error:
            parser.error(str(error))
        return 0
    stale = 0
    for name, text in generated().items():
        path = options.folder / name
        if path.is_file() and path.read_text(encoding="utf-8") == text:
            continue
        if options.check:
            stale = 1
            print(f"{path} is out of step with the space; run: python -m search_spaces", file=sys.stderr)
        else:
            path.write_text(text, encoding="utf-8")
            print(f"wrote {path}")
    return stale


def _format(document: dict[str, Any]) -> str:
    """JSON with one line per key."""
    lines = (f"  {json.dumps(key)}: {json.dumps(value)}" for key, value in document.items())
    return "{\n" + ",\n".join(lines) + "\n}\n"


if __name__ == "__main__":
    sys.exit(main())
