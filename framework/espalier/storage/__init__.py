"""The only code that writes and removes a run's files: checkpoints, small JSON files and records.

`contract` is the protocol of a storage; `local` is a folder, `objects` a store such as S3. Every effect is one call, so
a test that replaces these classes can number the calls of a whole run, and interrupt, truncate or fail any of them.
"""
