"""Where frames come from, behind one small protocol."""
