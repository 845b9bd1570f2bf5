"""`python -m gorax_engine.cli`, for where the `gorax` script is not at hand (the children of `serve --processes`)."""

import sys

from gorax_engine.cli.main import main

sys.exit(main())
