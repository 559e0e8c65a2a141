"""What the box tells its host and its network: readiness to systemd, presence over mDNS."""
