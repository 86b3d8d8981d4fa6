"""Shared memory: segments, the price book, the metadata object and the tick ring."""

from app.shared_memory_utils.metadata import SharedMemoryMetadata
from app.shared_memory_utils.price_book import SharedPriceBook

__all__ = ["SharedMemoryMetadata", "SharedPriceBook"]
