"""What a run does and how it stands, read from its folder alone: nothing is asked of a cluster, nothing is written.

Read in this order: `liveness` (whether its driver lives), `standing` (the state that follows), `run_status` (all that
a person asks of one run), `run_list` (a line for each run of a storage), `wait` (until a run has ended).
"""
