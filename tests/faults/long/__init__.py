"""The long run: everything at once for many minutes, while servers and processes are killed.

`python -m tests.faults.long --minutes 15` tells what came of it; `make test-faults` runs a minute.
"""
