"""How often torch.compile had to compile: a graph that is compiled again and again costs more than it gains."""

from torch._dynamo.utils import get_compilation_metrics


class Compilations:
    """What torch.compile does in this process from now on."""

    def __init__(self) -> None:
        self._before = get_compilation_metrics()

    def summary(self) -> dict[str, int]:
        """`compiled_graphs`, and how many of them are `recompilations`: new versions of code that had one already."""
        new = [one for one in get_compilation_metrics() if not any(one is old for old in self._before)]
        # "frame/version"; the backward pass of a graph is an entry of its own, without a count of operations.
        versions = {one.compile_id for one in new if one.graph_op_count}
        return {
            "compiled_graphs": len(versions),
            "recompilations": sum(not version.endswith("/0") for version in versions),
        }
