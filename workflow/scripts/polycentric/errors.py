"""Errors that are written for people."""

from __future__ import annotations


class UserError(Exception):
    """A mistake in a study file or in its data: printed without a traceback.

    Every message says what is wrong, where, and what to write instead. Several may be given at once.
    """

    def __init__(self, *messages: str) -> None:
        self.messages = messages
        super().__init__("\n".join(messages))


class ScanError(Exception):
    """One scan cannot be processed: it becomes a row with a code and a reason, the study goes on.

    `code` is an upper-case identifier such as ``GEOM_MISSING_SLICE``; `reason` must not name a person.
    """

    def __init__(self, code: str, reason: str) -> None:
        self.code, self.reason = code, reason
        super().__init__(f"{code}: {reason}")
