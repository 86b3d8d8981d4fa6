"""A live feed: trades of an exchange's websocket, numbered and recorded before they are sent."""
