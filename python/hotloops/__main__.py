"""``python -m hotloops`` is the command ``hotloops``."""

import sys

from hotloops.cli import main

sys.exit(main())
