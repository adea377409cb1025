"""`python -m proxyd`: the same as the `proxyd` command."""

from __future__ import annotations

import sys

from proxyd.cli.main import main

sys.exit(main())
