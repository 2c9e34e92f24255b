"""``python -m cubeport``."""

import sys

from cubeport.main import run

sys.exit(run())
