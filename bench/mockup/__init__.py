"""Draws the dashboards' JSON as Grafana would, without a Grafana: `python -m bench.mockup`.

What the JSON says and this does not understand is an error that names it, so that a picture never flatters.
How Grafana lays out, names and formats was read in its public source; colours and sizes are near, not equal.
"""
