"""What the log's database may answer instead.

StoreError                  the log cannot be opened, or a statement failed
├── StoreMissing            there is none where one is to be read
└── StoreUnavailable        the database cannot answer now (locked, disk full, no connection); nothing was written
    ├── StoreLost           it was deleted or replaced while it was open
    ├── StoreDamaged        it is damaged
    ├── StoreUnconfirmed    who was asked did not answer: it was written or not
    └── StoreOccupied       another process does what only one may do at a time
"""

from typing import ClassVar

from data.errors import RecommenderError


class StoreError(RecommenderError):
    """The log cannot be opened, or a statement failed."""


class StoreMissing(StoreError):  # noqa: N818 - a state, as those below
    """There is no log where one is to be read; who writes would have made it."""


class StoreUnavailable(StoreError):  # noqa: N818 - a state that passes, not a mistake
    """The database cannot answer now. Nothing was written; the same records may be sent again."""

    client_message: ClassVar[str] = "the log cannot commit now; nothing was stored, try again"
    """What a client may hear of it: no paths, no names."""


class StoreLost(StoreUnavailable):
    """The log was deleted or replaced while it was open. Nothing is written until it is there again.

    The same one put back is gone on with. Another one is another log: who has learned from the first must begin anew.
    """

    client_message = (
        "the log was deleted or replaced while the service ran; nothing was stored, and nothing will be "
        "until an operator puts it back"
    )


class StoreDamaged(StoreUnavailable):
    """The log is damaged. Nothing is written to it: what is written next to damage is lost with it."""

    client_message = "the log is damaged; nothing was stored, and nothing will be until an operator has restored it"


class StoreUnconfirmed(StoreUnavailable):
    """It is not known whether the records were written. They may be sent again: none counts twice."""

    client_message = (
        "the log did not confirm in time; what was sent is stored or not: send it again, nothing counts twice"
    )


class StoreOccupied(StoreUnavailable):
    """Another process does what only one may do at a time."""

    client_message = "days of the log are being archived: ask again when that has ended"
