"""Writes a report: text, Markdown, page, PDF, tables, JSON."""
