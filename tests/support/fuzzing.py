"""How many random cases the tests of inputs try: 200, or what `make fuzz` says."""

import os

import hypothesis

thorough = hypothesis.settings(
    max_examples=int(os.environ.get("CONTIMG_FUZZ_EXAMPLES", "200")),
    deadline=None,
    suppress_health_check=[
        hypothesis.HealthCheck.function_scoped_fixture,
        hypothesis.HealthCheck.too_slow,
    ],
)
