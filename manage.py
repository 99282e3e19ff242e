#!/usr/bin/env python3
"""Django's command line for an installed environment; `python3 -m basket_project` sets one up."""

from basket_project.django_command import run_django_command

if __name__ == "__main__":
    run_django_command(advice="For the demo, run `python3 -m basket_project manage COMMAND`.")
