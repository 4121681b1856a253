"""What Alembic runs to migrate: on the connection that it is given, in the transaction that this one is in."""

from alembic import context

from data.log.tables import METADATA

context.configure(connection=context.config.attributes["connection"], target_metadata=METADATA)
context.run_migrations()
