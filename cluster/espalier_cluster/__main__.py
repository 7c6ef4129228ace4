"""`python -m espalier_cluster` is the `espalier` command."""

from espalier_cluster.command import main

main()
