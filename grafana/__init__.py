"""The dashboards as code: `python -m grafana` writes `dashboards/*.json`, which Grafana reads.

Runs by itself: it imports nothing of the service.
"""
