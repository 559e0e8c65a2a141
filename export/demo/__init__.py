"""The demonstration model: drawings with known attributes, training, accuracy card."""
