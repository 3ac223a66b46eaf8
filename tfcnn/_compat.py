"""Every use of a private part of another library, one function or class for each.

Each entry says what it works around, in which versions that was seen, and what happens where the private part is gone:
a worse but right way, or one clear error, never an import that breaks the suite. `tests/test_compat.py` has a test for
each entry, which tells when the private part has changed or is no longer needed.
"""

from __future__ import annotations
