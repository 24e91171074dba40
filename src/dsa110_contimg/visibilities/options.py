"""Options of the conversion of files."""

from pydantic import Field

from dsa110_contimg.options import Options


class ConversionOptions(Options):
    """Options for converting sub-band files to a Measurement Set."""

    min_subbands: int = Field(
        12, ge=1, description="Minimum number of sub-bands of a tile; absent ones are flagged"
    )
