"""``python -m jaxff``: the command line."""

import sys

from jaxff.cli import main

sys.exit(main())
