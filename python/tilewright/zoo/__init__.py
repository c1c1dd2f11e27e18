"""Networks for tests and benchmarks, with seeded weights."""
