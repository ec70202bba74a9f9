"""Throughput and latency of an OpenAI-compatible endpoint, and what of it is the client's own."""
