"""In place of pandas, which other systems need: the service is installed without it.

pyarrow imports pandas where it is installed, so the first answer would take half a second longer.
"""

raise ImportError
