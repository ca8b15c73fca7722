"""`python -m climdown`."""

from climdown.cli import main

main()
