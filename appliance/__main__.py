"""`python -m appliance` is `dermstation`."""

from appliance.cli import main

main()
