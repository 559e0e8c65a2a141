"""Every HTTP face: the kiosk screens and the engine's API; nobody imports this package."""
