"""Do a change's tests notice when its lines are broken? Mutants of changed Python lines, and who kills them.

The whole folder is copied beside the tree and runs in the sandbox under the tested repository's own interpreter, so it
imports the standard library and itself, and nothing of the controller. `serve` is the only process that knows which
run is a mutant and which a control, and the only one that reports.
"""
