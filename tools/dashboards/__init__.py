"""Generates the Grafana dashboards: `python -m tools.dashboards`.

Imports nothing of the service, so that it can run without it.
"""
