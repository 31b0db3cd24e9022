"""`python -m gendataagent` is the command line."""

from gendataagent.cli import main

main()
