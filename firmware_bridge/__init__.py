"""The microcontroller (LED ring, polariser, shutter button) seen from the host; its place, the link comes later."""
