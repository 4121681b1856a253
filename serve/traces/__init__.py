"""Spans of requests, and of what was learned of them (OpenTelemetry); without an endpoint nothing of it is loaded."""
