"""Ingestion of events from HTTP requests and from files; an event_id is stored only once.

A request: `ingest_service` receives the body (`http_body`), validates its events
(`http_event_validation`), and stores them (`repo.ingest`).
A file: `loader` opens it (`readers`), reads blocks of rows (`ndjson`, `csv`, `parquet`), validates
them, and stores batches (`batch_writer`).
Both validate whole blocks with `fast_validation`, and where that does not accept one, each event
with `validation`; `strict_json` is the part of it about JSON.
"""
