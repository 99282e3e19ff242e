"""Entry point of `python3 -m basket_project`: checks the Python version and the platform, then runs the launcher.

Only this file uses a syntax that Python 2.7 and 3.4 can parse: an outdated interpreter must print a sentence, not a syntax error. The
rest of the launcher may use Python 3.11, and imports the standard library only.
"""

import os
import sys

if sys.version_info < (3, 11):  # noqa: UP036 - older interpreters get here
    sys.stderr.write(
        "This project needs Python 3.11 or newer, and this is Python %d.%d.\n"  # noqa: UP031 - see above
        % (sys.version_info[0], sys.version_info[1]),
    )
    sys.exit(1)

if os.name != "posix":
    sys.stderr.write("This project runs on Linux with glibc and on macOS, not on this operating system.\n")
    sys.exit(1)

from basket_project.launcher.command_line import main

sys.exit(main(sys.argv[1:]))
