"""Grafana dashboards as code: what they show (boards/), and how Grafana wants it (sdk.py)."""
