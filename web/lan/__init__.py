"""The clinic's network: TLS in a process of its own, and pages for paired devices."""
