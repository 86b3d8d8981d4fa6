"""The kernel where it is not compiled: Python takes an extension module of this name first."""

from app.kernel.plain.kernel import *  # noqa: F403
