"""Attention among the stocks of a day: our dense masked attention against torch-geometric's sparse layers,
forward and backward, same machine, same run.

`ALPHALOOP_NEURALFORECAST_PYTHON=/path/to/python python tests/benchmarks/bench_graph_attention.py [nodes]`;
the variable names a Python that has torch-geometric (2.8.1). Both sides get the same sizes: width, heads and
six edge features. The full graph has every pair of stocks, the sparse one the 20 neighbours of the highest
residual correlation. Who the neighbours are changes from day to day, so what it costs to find them and to
gather their edges is a line of its own; the dense side needs neither. Medians over the rounds of CPU time
(all threads) and wall clock, and the least wall clock.
"""

import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

import torch

NEIGHBOURS, LOOKBACK, EDGES = 20, 30, 6
SIZES = ((16, 2), (256, 8))
ROUNDS, SECONDS = 40, 3.0


def main() -> None:
    """A table of milliseconds for one and two threads."""
    nodes = int(sys.argv[1]) if len(sys.argv) > 1 else 500
    python = os.environ.get("ALPHALOOP_NEURALFORECAST_PYTHON")
    print(
        f"{nodes} stocks, {EDGES} edge features, forward and backward, {os.cpu_count()} cores, torch"
        f" {torch.__version__}"
    )
    print(f"{'':82s} {'threads':>7s} {'CPU ms':>8s} {'wall ms':>8s} {'least':>8s}")
    for threads in (1, 2):
        torch.set_num_threads(threads)
        _ours(nodes)
        if python:
            subprocess.run(
                [python, str(Path(__file__).resolve()), "geometric", str(nodes), str(threads)], check=True
            )
    if not python:
        print(
            "torch-geometric was not measured: ALPHALOOP_NEURALFORECAST_PYTHON does not name a Python that"
            " has it."
        )


def _ours(nodes: int) -> None:
    from components.experts.networks.graph_attention import GraphLayer, make_graph

    torch.manual_seed(0)
    filled = torch.ones(1, nodes, dtype=torch.bool)
    sector, industry, returns = (
        torch.randint(1, 12, (1, nodes)),
        torch.randint(1, 61, (1, nodes)),
        0.02 * torch.randn(1, nodes, LOOKBACK),
    )
    begun = torch.ones(1, nodes, LOOKBACK, dtype=torch.bool)

    def build() -> object:
        return make_graph(filled, sector, industry, 11, 60, returns, begun)

    graph = build()
    _report("ours: edge features from the windows", build)
    for width, heads in SIZES:
        layer = GraphLayer(width, heads, EDGES, dropout=0.0)
        x = torch.randn(1, nodes, width, requires_grad=True)

        def dense(layer=layer, x=x) -> None:
            layer.hear(x, graph)[0].sum().backward()

        _report(f"ours: dense masked, all pairs, width {width}, {heads} heads", dense)


def _geometric(nodes: int) -> None:
    import torch_geometric
    from torch_geometric.nn import GATv2Conv, TransformerConv

    torch.manual_seed(0)
    edges = torch.randn(EDGES, nodes, nodes)
    place = torch.arange(nodes)

    def neighbours() -> tuple[torch.Tensor, torch.Tensor]:
        givers = (edges[2] - 1e9 * torch.eye(nodes)).topk(NEIGHBOURS, dim=1).indices.flatten()
        askers = place.repeat_interleave(NEIGHBOURS)
        return torch.stack([givers, askers]), edges[:, askers, givers].T.contiguous()

    different = place[:, None] != place[None, :]
    full = different.nonzero().T.flip(0).contiguous(), edges[:, different].T.contiguous()
    version = f"torch-geometric {torch_geometric.__version__}"
    _report(f"{version}: finding {NEIGHBOURS} neighbours", neighbours)
    for width, heads in SIZES:
        x = torch.randn(nodes, width, requires_grad=True)
        for kind in (TransformerConv, GATv2Conv):
            layer = kind(width, width // heads, heads, edge_dim=EDGES)
            # All pairs at the large width take seconds a round.
            for name, (index, features) in (
                (f"{NEIGHBOURS} neighbours", neighbours()),
                *((("all pairs", full),) if width == SIZES[0][0] else ()),
            ):

                def sparse(layer=layer, x=x, index=index, features=features) -> None:
                    layer(x, index, features).sum().backward()

                _report(f"{version}: {kind.__name__}, {name}, width {width}, {heads} heads", sparse)


def _report(name: str, run) -> None:
    run()
    wall, cpu, begin = [], [], time.perf_counter()
    while len(wall) < ROUNDS and (len(wall) < 3 or time.perf_counter() - begin < SECONDS):
        start, used = time.perf_counter(), time.process_time()
        run()
        wall.append(1e3 * (time.perf_counter() - start))
        cpu.append(1e3 * (time.process_time() - used))
    print(
        f"{name:82s} {torch.get_num_threads():7d} {statistics.median(cpu):8.2f}"
        f" {statistics.median(wall):8.2f} {min(wall):8.2f}",
        flush=True,
    )


if __name__ == "__main__":
    if sys.argv[1:2] == ["geometric"]:
        torch.set_num_threads(int(sys.argv[3]))
        _geometric(int(sys.argv[2]))
    else:
        main()
