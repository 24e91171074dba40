"""Plans hold their whole selection and all options of the mosaic."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"

_plans = sa.table("plans", sa.column("name", sa.String), sa.column("document", sa.JSON))


def upgrade() -> None:
    """Rewrite the documents."""
    connection = op.get_bind()
    for name, document in connection.execute(sa.select(_plans)).all():
        if "selection" in document:
            continue
        corrected = {"include_uncorrected": document.pop("include_uncorrected")}
        times = {"since": document.pop("since"), "until": document.pop("until")}
        document["selection"] = {**times, **corrected}
        document["options"] = {"method": document.pop("method"), **corrected}
        connection.execute(_plans.update().where(_plans.c.name == name).values(document=document))
