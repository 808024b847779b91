"""Writes the hashes that the contract tests compare with: ``python -m tests.contract.pin``.

Only a change of the stream, of the mathematics or of the cases may change them; say so in the
changelog, since users' results change with them.
"""

from __future__ import annotations

import json
import warnings
from pathlib import Path

from tests.contract import cases

PATH = Path(__file__).parents[1] / "data" / "contract.json"


def main() -> None:
    warnings.simplefilter("ignore")
    found = cases.digests(backend="cpp")
    PATH.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    print(f"{len(found)} hashes written to {PATH}")


if __name__ == "__main__":
    main()
