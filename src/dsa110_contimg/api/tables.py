"""Lists as CSV."""

import csv
import io
from collections.abc import Sequence

from fastapi import Response
from pydantic import BaseModel

CSV: dict[int | str, dict[str, object]] = {
    200: {"content": {"text/csv": {"schema": {"type": "string"}}}}
}
"""Documentation of an answer that may be CSV."""


def csv_response(rows: Sequence[BaseModel], columns: Sequence[str], name: str) -> Response:
    """Rows as a table with a header, to be kept in a file of this name."""
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(row.model_dump(mode="json") for row in rows)
    headers = {"content-disposition": f'attachment; filename="{name}"'}
    return Response(text.getvalue(), media_type="text/csv", headers=headers)
