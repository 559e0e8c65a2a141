"""What the station does, without any face: encounters, captures and the jobs that the engine does for them."""
