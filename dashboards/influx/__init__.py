"""The Fleet, Node and GPU dashboards for InfluxDB, asked in InfluxQL."""
