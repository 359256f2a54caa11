"""`python -m cirrus` is the command `cirrus`."""

from cirrus.cli import main

main()
