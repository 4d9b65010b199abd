"""Ingestion of events from HTTP requests and from files; an event_id is stored only once.

A request: `ingest_service` receives the body (`http_body`), validates its events
(`http_event_validation`), and stores them (`repo.ingest`).
A file: `input_file` opens it (`compression`), guesses how it is written (`readers`, `csv_dialect`),
and applies the options to its first rows (`mapping`). Blocks of rows are read by `ndjson`,
`json_values`, `csv`, `parquet` and `access_log`: if the columns are the fields, as they are, else
through `mapped_block`. `loader` validates them, and stores batches (`batch_writer`).
Both validate whole blocks with `fast_validation`, and where that does not accept one, each event
with `validation`; `strict_json` is the part of it about JSON.
"""
