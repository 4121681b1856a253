"""What every page has at hand."""

from dataclasses import dataclass

from data.log.store import Store
from serve.config import ConsoleConfig
from serve.console.desk import Desk
from serve.console.rendering import Pages
from serve.console.sessions import Sessions


@dataclass(frozen=True, slots=True)
class Room:
    """The same for all pages."""

    pages: Pages
    """Renders."""
    desk: Desk
    """The recommender: what decides, learns, and knows policies."""
    store: Store
    """The log, to be read in threads."""
    sessions: Sessions
    config: ConsoleConfig
