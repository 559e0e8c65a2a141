"""The microcontroller in the dermatoscope (light, buttons, sensors) seen from the host, its simulator and its firmware.

Read `PROTOCOL.md` for the wire, `DESIGN.md` for the choices. The host side starts at `client.Dermatoscope`.
Nothing here knows of the appliance, and nothing that a device says is ever text.
"""
