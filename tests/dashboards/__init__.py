"""Dashboards on a running Prometheus and PostgreSQL."""
