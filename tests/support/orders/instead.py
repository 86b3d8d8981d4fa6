"""An object with some of its methods replaced, also where it is compiled and takes no others."""

from typing import Any


class Instead:
    """All of ``whole``, except what is named."""

    def __init__(self, whole: Any, **methods: Any) -> None:
        self._whole = whole
        vars(self).update(methods)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._whole, name)
