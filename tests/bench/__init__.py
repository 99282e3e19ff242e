"""The benchmark: `python3 -m basket_project bench`. Never collected as a test, because time proves nothing on a busy machine."""
