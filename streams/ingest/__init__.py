"""Requests over HTTP, for servers that cannot speak Kafka."""
