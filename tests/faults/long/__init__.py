"""The long run: queries and writes for many minutes, while servers and processes are killed.

`python -m tests.faults.long --minutes 15` prints a report; `make test-faults` runs one minute.
"""
