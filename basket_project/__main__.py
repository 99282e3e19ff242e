"""The command line of the project, `python3 -m basket_project`: checks that Python itself will do, then hands over to the launcher.

This file alone keeps to a syntax that Python 2.7 and 3.4 can still read: an interpreter that is too old must be told so in a sentence,
not with a syntax error. Everything else of the launcher may use Python 3.11, and none of it imports more than the standard library.
"""

import os
import sys

if sys.version_info < (3, 11):  # noqa: UP036 - this is where a Python below the floor learns about the floor
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
