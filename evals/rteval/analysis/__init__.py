"""From records to numbers and verdicts: tables, metrics, gates, health. Opens no socket and writes no report."""
