"""The executor without processes."""

from collections.abc import Callable, Mapping
from concurrent.futures import Future
from pathlib import Path

from dsa110_contimg.executors.calls import Call, Parameters, Result, arguments_of
from dsa110_contimg.executors.fresh import remove_made, resolved
from dsa110_contimg.executors.own_disk import check_here, own_disks


class InlineExecutor:
    """Runs each call at once in this process, for tests and notebooks."""

    capacity = 1

    @property
    def own_disks(self) -> Mapping[str, Path]:
        """Just that of this machine, if it has one."""
        return own_disks()

    def submit(
        self,
        function: Callable[Parameters, Result],
        /,
        *args: Parameters.args,
        **kwargs: Parameters.kwargs,
    ) -> "Future[Result]":
        """Run the call and return its finished future."""
        future: Future[Result] = Future()
        arguments = arguments_of(function, *args, **kwargs)
        given = resolved(arguments)
        try:
            check_here(arguments)
            future.set_result(Call(function, given)())
        except Exception as error:  # noqa: BLE001 (whatever it is belongs to the caller)
            remove_made(arguments, given)
            future.set_exception(error)
        return future
