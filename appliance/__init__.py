"""The lean runtime and the clinic's rules: model engine, camera, images and the station's service; no web, no torch."""
