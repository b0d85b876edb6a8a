"""Scores of what was said and heard: word errors and checks. Knows texts, not sockets and not reports."""
