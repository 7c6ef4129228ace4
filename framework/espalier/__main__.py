"""`python -m espalier` is the `espalier` command, which composes everything and so lies beside the framework."""

import runpy

runpy.run_module("espalier_cluster", run_name="__main__")
