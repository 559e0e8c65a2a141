"""Real neighbours for tests: machines on a LAN, and the foreign programs that run on them."""
