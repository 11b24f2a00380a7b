"""Benchmarks: larkdrop beside what people would use instead, in the same run, against the same server."""
