"""`python -m scenetok_core`."""

import io
import sys

from .cli import main

if __name__ == "__main__":
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # pipes of Windows lack most letters that paths may have
    sys.exit(main())
