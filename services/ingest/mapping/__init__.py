"""Mapping of the rows of a file to events.

`options` are those of the command, and `presets` those of other products. `resolution` applies them
to the first rows of a file, which says everything that is missing at once, with `suggestions`;
`row_mapping` makes events of all rows, and `times` reads their times.
"""
