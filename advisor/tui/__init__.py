"""The guided interface: screens that wait for a person."""
