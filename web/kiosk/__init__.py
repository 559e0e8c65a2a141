"""The nurse's screens: pages, the JSON they call and the event stream of an answer."""
