"""Run by Alembic: migrate over the connection that was handed over."""

from alembic import context

context.configure(
    connection=context.config.attributes["connection"], render_as_batch=True, transactional_ddl=True
)
context.run_migrations()
