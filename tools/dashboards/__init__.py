"""The dashboards as code. `python -m tools.dashboards` writes `grafana/dashboards/*.json`.

Runs by itself: it imports nothing of the service.
"""
