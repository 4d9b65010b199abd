"""Tests of the dashboards on a running Prometheus and PostgreSQL."""
