"""The compiled part: what runs once per tick; imports nothing else of app."""
