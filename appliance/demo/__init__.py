"""The demonstration bundle, its pictures and where they lie; drawings, not patients."""
