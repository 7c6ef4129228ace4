"""The only code that touches what a run leaves: its checkpoints, and its own small files and records.

`contract` is what is asked of a storage; `local` a folder, `objects` a store such as S3. Every effect is one call, so a
test that replaces these classes can number the calls of a whole run, and stop, tear or fail any of them.
"""
