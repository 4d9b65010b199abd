"""The long run: queries and writes for many minutes, while servers and processes are killed.

`make test-long` runs it for MINUTES and prints a report; `make test-faults` runs one minute.
"""
