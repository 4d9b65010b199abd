"""Ingestion of events from files and HTTP requests; an event_id is stored only once."""
