"""Grafana dashboards as code; empty until the first one is written."""
