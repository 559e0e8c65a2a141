"""What the clinic keeps: sealed records that survive a power cut and tell nothing to a thief.

The way in is `appliance.records.opening.open_records`; reasons, layout and threat model are in `DESIGN.md`. It needs
the extra `records` and imports it only when a store is opened. It knows no screen, no camera and no model.
"""
