"""What this machine can do, measured: memory, processor, and a bundle's speed on them."""
