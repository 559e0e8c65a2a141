"""Reading and measuring images without trusting them."""
