"""Settings of every process: read and checked once, at the start.

A setting is one field of :class:`app.config.settings.Settings`; its environment variable is the
field's name in upper case.  Its value comes from the process environment, else from the ``.env``
file, else from the default there.  All invalid values are reported in one message before anything
starts.
"""
