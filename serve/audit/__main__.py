"""`python -m serve.audit`."""

import sys

from serve.audit.run import main

if __name__ == "__main__":
    sys.exit(main())
